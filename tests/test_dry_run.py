from __future__ import annotations

import os
import shutil
import signal

import pytest

from stillroom import trial_steps
from stillroom.cli import main
from tests.conftest import colour_folder
from tests.engine.test_loop import At

FAST = ["--batch_size", "8", "--accelerator", "cpu", "--precision", "32", "--image_size", "8", "--seed", "3"]
TINY = "stillroom.models.demo_nets:small"


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


def test_a_detector_is_refused_in_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    model = "stillroom.models.demo_detectors:small_detector"
    words = ["train", "--data", "scenes:5", "--model", model, "--batch_size", "4", "--runs", str(tmp_path / "runs")]
    assert main([*words, "--accelerator", "cpu", "--dry_run"]) == 2
    assert "dry_run=true measures classifiers only, and scenes:5 has boxes" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
