"""Two processes under torchrun train a detector as one does. ``python -m tests.test_detection_processes FOLDER``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from stillroom.api import run_recipe
from stillroom.config import make_recipe
from stillroom.engine.run_folder import RunFolder
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.reporters import Silent
from stillroom.tasks.detections_file import read_detections
from tests.boxed_data import boxed_data
from tests.tasks.tiny_detector import tiny_detector

IMAGES, VAL_IMAGES = 11, 5  # no multiples of two: the last step has one image of each split too few
SETTINGS = {
    "teacher": "t", "student": "s", "data": "d", "method": "supervised + kd + at", "epochs": 2, "batch_size": 4,
    "lr": 0.01, "accelerator": "cpu", "precision": "32", "workers": 0,
}  # fmt: skip


def distilled(folder, name):
    recipe = make_recipe("distill", {**SETTINGS, "runs": str(folder), "name": name})
    teacher, student = tiny_detector(classes=2), tiny_detector(classes=2)
    torch.manual_seed(3)
    for parameter in teacher.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    return run_recipe(recipe, Silent(), Inputs(teacher=teacher, student=student, data=boxed_data(IMAGES, VAL_IMAGES)))


def test_two_processes_end_with_the_weights_and_scores_of_one_and_count_no_image_twice(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, "-m", "tests.test_detection_processes", str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = distilled(tmp_path, "one").record, RunFolder(tmp_path / "two")
    assert two.summary()["processes"] == 2
    assert two.summary()["teacher"]["count"] == VAL_IMAGES
    weights, found = load_file(one.student), load_file(two.student)
    for name, value in weights.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
    for row, other in zip(one.epochs(), two.epochs(), strict=True):
        assert other["terms"] == pytest.approx(row["terms"], rel=1e-3)
        assert other["val_ap"] == pytest.approx(row["val_ap"], abs=0.1)
    whole, parts = (read_detections(run.predictions, VAL_IMAGES, 2) for run in (one, two))
    assert torch.equal(whole.ids, parts.ids)
    assert [len(image) for image in whole.objects] == [len(image) for image in parts.objects]


if __name__ == "__main__":
    distilled(sys.argv[1], "two")
