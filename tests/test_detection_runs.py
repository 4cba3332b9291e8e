"""Training and distilling detectors, end to end."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from safetensors.torch import load_file

import stillroom
from stillroom.api import run_recipe
from stillroom.config import make_recipe
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import Diverged, InputError, Stopped
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.reporters import Silent
from stillroom.tasks.detections_file import read_detections
from tests.boxed_data import boxed_data
from tests.tasks.tiny_detector import tiny_detector

FAST = {"epochs": 2, "batch_size": 4, "lr": 0.01, "accelerator": "cpu", "precision": "32", "workers": 0}


@pytest.fixture(scope="module")
def data():
    return boxed_data()


def teacher(seed=3):
    model = tiny_detector(classes=2)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    return model


def distilled(folder, data, reporter=None, **settings):
    made = {"teacher": "t", "student": "s", "data": "d", "method": "ldrld(depth=2) + at", "runs": str(folder)}
    recipe = make_recipe("distill", {**FAST, **made, **settings})
    inputs = Inputs(teacher=teacher(), student=tiny_detector(classes=2), data=data)
    return run_recipe(recipe, reporter or Silent(), inputs)


class StoppedAt(Silent):
    def __init__(self, step):
        self.left = step

    def step(self, epoch, images, values):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_detector_learns_to_find_rectangles(tmp_path, data, precision):
    settings = {**FAST, "epochs": 25, "lr": 0.02, "precision": precision, "runs": str(tmp_path)}
    student, record = stillroom.train(model=tiny_detector(classes=2), data=data, name="run", **settings)
    rows = record.epochs()
    assert rows[-1]["terms"].keys() == {"supervised"}
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    if precision == "32":  # a detector of this size is too coarse in bf16 for a threshold that means something
        assert rows[-1]["val_ap50"] > 5 > rows[0]["val_ap50"]
    assert "train_top1" not in rows[-1]
    assert record.summary()["best"]["val_ap"] == max(row["val_ap"] for row in rows)
    assert record.config()["task"] == "detection"
    assert not student.training


def test_logits_and_pyramid_are_distilled_together_and_recorded(tmp_path, data):
    _, record = distilled(tmp_path, data, name="run")
    last = record.epochs()[-1]
    assert last["terms"].keys() == {"supervised", "ldrld", "at"}
    assert all(value > 0 for value in last["terms"].values())
    stored = read_detections(record.predictions, 6, 2)
    assert torch.equal(stored.ids, data.val.ids)
    assert [len(one) for one in stored.objects] == [len(one) for one in data.val.objects]
    assert record.summary()["teacher"].keys() >= {"ap", "ap50", "count"}


def test_a_run_stopped_in_an_epoch_and_continued_is_bit_identical(tmp_path, data):
    distilled(tmp_path, data, name="whole")
    with pytest.raises(Stopped):
        distilled(tmp_path, data, StoppedAt(4), name="broken")
    distilled(tmp_path, data, name="broken")
    whole, broken = (RunFolder(tmp_path / name) for name in ("whole", "broken"))
    one, other = load_file(whole.student), load_file(broken.student)
    assert all(torch.equal(one[name], other[name]) for name in one)
    timed = {"seconds", "images_per_second", "bank_seconds"}
    rows = [[{k: v for k, v in row.items() if k not in timed} for row in run.epochs()] for run in (whole, broken)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"method": "crd"}, "crd reads ids, which a detector does not give"),
        ({"method": "simkd"}, "which a detector does not give"),
        ({"mixup": 0.2}, "mixup"),
        ({"label_smoothing": 0.1}, "label_smoothing=0.1: this setting is for classification"),
        ({"freeze_epochs": 1}, "a detector has several heads"),
        ({"method": "ldrld(depth=9)"}, "depth"),
    ],
)
def test_what_a_detector_cannot_do_is_one_error_before_training(tmp_path, data, settings, says):
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        distilled(tmp_path, data, name="run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_run_folder_teaches_is_evaluated_and_is_built_again(tmp_path, data):
    name = "tests.tasks.tiny_detector:two_classes"
    settings = {**FAST, "data": data, "runs": str(tmp_path)}
    _, record = stillroom.train(model=name, name="teacher", **settings)
    found = stillroom.evaluate(model=str(record.path), data=data, accelerator="cpu", trust=True, workers=0)
    assert found.ap == pytest.approx(record.summary()["last"]["val_ap"], abs=1e-6)
    _, student = stillroom.distill(
        teacher=str(record.path), student=name, method="kd", name="student", trust=True, **settings
    )
    assert student.summary()["teacher"]["ap"] == pytest.approx(found.ap, abs=1e-6)
    assert student.config()["teacher"] == str(record.path)


def test_a_detector_that_diverges_is_named_and_not_finished(tmp_path, data):
    with pytest.raises(Diverged, match=r"in epoch 1, step \d of 3; no checkpoint was saved yet\. Lower lr"):
        distilled(tmp_path, data, name="run", lr=1e6)
    assert not RunFolder(tmp_path / "run").finished
