"""A comparison of detectors as a whole, on a small folder in COCO's layout."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from stillroom.cli import main
from stillroom.compare import run
from stillroom.compare.workers import Staff
from stillroom.engine.run_folder import RunFolder
from tests.data.boxed_folders import write_coco

DETECTOR = "tests.tasks.tiny_detector:two_classes"


def times(folders):
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*") if path.is_file()}


class Here:
    """Workers that are this process: another one would import PyTorch for as long as the whole test takes."""

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future

    def finish_saving(self):
        pass

    def stop(self):
        pass


def test_detectors_are_compared_by_average_precision_and_a_second_call_trains_nothing(tmp_path, monkeypatch, capsys):
    command = [
        "compare", "--teachers", DETECTOR, "--students", DETECTOR, "--methods", "ce,kd", "--seeds", "1",
        "--data", str(write_coco(tmp_path / "coco")), "--runs", str(tmp_path), "--name", "c", "--epochs", "1",
        "--batch_size", "2", "--image_size", "32", "--accelerator", "cpu", "--precision", "32", "--workers", "0",
    ]  # fmt: skip
    folder = tmp_path / "c"
    monkeypatch.setattr(run, "make_staff", lambda *_: Staff(Here(), 1, 1))
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "AP50" in said
    assert "The teacher reaches AP 0" in said
    page = (folder / "index.html").read_text()
    assert "average precision" in page
    assert "Kinds of errors" in page
    runs = sorted(path.parent for path in folder.glob("*/detections.safetensors"))
    assert [path.name for path in runs] == [
        "two_classes-from-two_classes-ce-s0", "two_classes-from-two_classes-kd-s0", "two_classes-s0",
    ]  # fmt: skip
    assert {name for path in runs[:2] for name in RunFolder(path).epochs()[0]["terms"]} == {"supervised", "kd"}

    before = times(runs)
    monkeypatch.setattr(run, "make_staff", pytest.fail)
    assert main(command) == 0
    assert times(runs) == before
    assert "AP50" in capsys.readouterr().out
