from __future__ import annotations

import os
import shutil
import signal

import pytest

from stillroom import trial_steps
from stillroom.cli import main
from tests.conftest import colour_folder
from tests.data.boxed_folders import write_coco
from tests.engine.test_loop import At

FAST = ["--batch_size", "8", "--accelerator", "cpu", "--precision", "32", "--image_size", "8", "--seed", "3"]
TINY = "stillroom.models.demo_nets:small"
DETECTOR = "tests.tasks.tiny_detector:two_classes"
BOXED = ["--data", "coco", "--image_size", "32", "--batch_size", "2", "--accelerator", "cpu", "--precision", "32"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images and a trained teacher."""
    place = tmp_path_factory.mktemp("place")
    (place / "photos").mkdir()
    colour_folder(place / "photos", count=16, side=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["train", "--model", TINY, "--data", "photos", "--epochs", "1", "--name", "t", *FAST]) == 0
    return place


@pytest.fixture
def temporary(place, tmp_path, monkeypatch):
    """The folder for temporary files; the working directory is that of the images."""
    monkeypatch.chdir(place)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def files(*folders):
    return sorted(str(path) for folder in folders for path in folder.rglob("*"))


def distil(*more):
    return ["distill", "--teacher", "runs/t", "--student", TINY, "--data", "photos", "--method", "kd", "--epochs", "3",
            "--trust", *FAST, *more]  # fmt: skip


def test_a_dry_run_says_what_would_happen_and_writes_nothing(place, temporary, capsys):
    before = files(place, temporary)
    assert main(distil("--bank", "bank", "--log_to", "tensorboard", "--dry_run")) == 0
    assert files(place, temporary) == before
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if "run folder" not in line)
    assert lines["data"].startswith("photos: 3 classes, 42 training and 6 validation images of 8x8, in memory")
    assert lines["teacher"].startswith("runs/t, ")
    assert "parameters" in lines["student"]
    assert "million multiply-accumulate operations" in lines["student"]
    assert lines["method"] == "kd"
    assert lines["training"].startswith("3 epochs of 6 steps, batch size 8, sgd, peak learning rate 0.1, onecycle")
    assert "3 epochs in about" in lines["time"]
    assert lines["memory"].endswith("at the peak of a few steps (the process)")
    assert "checkpoints and weights" in lines["disk"]
    # Three epochs of 42 images and one of 6, each with 3 logits of 2 bytes.
    assert lines["bank"].startswith("0.7 kB in bank")


def test_a_run_that_is_there_is_told_and_left_as_it_is(place, temporary, capsys):
    here = ["train", "--model", TINY, "--data", "photos", *FAST, "--epochs", "1", "--name", "t", "--dry_run"]
    before = {path: path.read_bytes() for path in (place / "runs" / "t").rglob("*") if path.is_file()}
    assert main(here) == 0
    said = capsys.readouterr().out
    assert "runs/t, finished: nothing would be trained" in said
    assert "0 epochs in about 0.0 s" in said
    assert {path: path.read_bytes() for path in (place / "runs" / "t").rglob("*") if path.is_file()} == before
    assert main([*here, "--lr", "0.5"]) == 2
    assert "runs/t holds a run with other settings (lr" in capsys.readouterr().err
    shutil.copytree(place / "photos", place / "runs" / "full", dirs_exist_ok=True)
    assert main([*here, "--name", "full"]) == 2
    assert "holds other files" in capsys.readouterr().err


def test_what_would_end_the_run_ends_the_dry_run(place, temporary, monkeypatch, capsys):
    assert main(distil("--dry_run", "--student", "resnet9")) == 2
    assert "resnet9" in capsys.readouterr().err
    monkeypatch.setattr("shutil.disk_usage", lambda _path: shutil._ntuple_diskusage(10, 10, 0))
    assert main(distil("--dry_run")) == 2
    assert "checkpoints need" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(distil("--dry_run")) == 2
    assert "without torchrun" in capsys.readouterr().err


def test_a_stopped_dry_run_leaves_nothing_behind(place, temporary, monkeypatch, capsys):
    before = files(place, temporary)

    class Stopping(trial_steps._StepClock):
        def step(self, epoch, images, values):
            At(1, lambda: os.kill(os.getpid(), signal.SIGTERM)).step(epoch, images, values)

    monkeypatch.setattr(trial_steps, "_StepClock", Stopping)
    assert main(distil("--dry_run")) == 128 + signal.SIGTERM
    assert "stopped; a dry run leaves nothing behind" in capsys.readouterr().err
    assert files(place, temporary) == before


def test_a_file_cannot_make_a_run_dry(place, temporary, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("dry_run: true\n")
    assert main(distil("--config", str(tmp_path / "recipe.yaml"))) == 2
    assert "a file cannot set dry_run; give --dry_run on the command line" in capsys.readouterr().err


def without_first_object(split, content):
    return content | {"annotations": content["annotations"][1:]} if split == "val" else content


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    """Images with boxes, of which the first validation image has no object, and a trained detector."""
    place = tmp_path_factory.mktemp("boxed")
    write_coco(place / "coco", without_first_object)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["train", "--model", DETECTOR, "--epochs", "1", "--name", "t", *BOXED]) == 0
    return place


def test_a_dry_run_of_a_detector_says_what_would_happen_and_writes_nothing(boxed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(boxed)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(trial_steps, "VAL_BATCHES", 1)
    monkeypatch.setattr(trial_steps, "val_batch", lambda *_: 1)  # the image without an object, of which there is no AP
    before = files(boxed, tmp_path)
    words = ["distill", "--teacher", "runs/t", "--student", DETECTOR, "--method", "kd + at", "--epochs", "4", "--trust"]
    assert main([*words, *BOXED, "--image_size", "24", "--dry_run"]) == 0  # smaller than in the teacher's run
    assert files(boxed, tmp_path) == before
    said = capsys.readouterr()
    assert "runs/t was trained on images of 32 pixels (shorter side) and gets them at 24 pixels" in said.err
    lines = dict(line.split(maxsplit=1) for line in said.out.splitlines() if "run folder" not in line)
    assert lines["data"].startswith("coco: 3 classes, 3 training and 2 validation images with 24 pixels on the shorter")
    assert "million multiply-accumulate operations an image" in lines["teacher"]
    assert "million multiply-accumulate operations an image" in lines["student"]
    assert lines["method"] == "kd + at"
    assert "task" not in lines["settings"]
    assert lines["training"].startswith("4 epochs of 1 step, batch size 2")
    assert "4 epochs in about" in lines["time"]
    assert "images/s" in lines["time"]
    # Two images with 100 detections of 28 bytes each, and about 2 kB for the rest.
    assert "and 7.7 kB for predictions" in lines["disk"]
