"""A pretrained network becomes a teacher for other classes in one command, and teaches a student in a second."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from stillroom import train
from stillroom.cli import main
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from tests.conftest import colour_folder

FAST = {"epochs": 1, "batch_size": 16, "lr": 0.05, "accelerator": "cpu", "precision": "32"}
FLAGS = [word for name, value in FAST.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_folder(tmp_path_factory.mktemp("photos"), count=10, side=40)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Weights of a network with seven classes."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "local.safetensors"
    save_file(timm.create_model("test_efficientnet", num_classes=7).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def teacher(photos, checkpoint, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    command = ["train", "--model", "timm:test_efficientnet", "--checkpoint", str(checkpoint), "--new_head", "true",
               "--freeze_epochs", "1", "--data", str(photos), "--runs", str(runs), "--name", "teacher"]  # fmt: skip
    assert main([*command, *FLAGS]) == 0
    return RunFolder(runs / "teacher")


def test_fine_tune_in_one_command_and_distil_in_the_second(photos, checkpoint, teacher):
    pretrained, tuned = load_file(checkpoint), load_file(teacher.student)
    assert {name for name in tuned if not torch.equal(tuned[name], pretrained[name])} == {
        "classifier.weight", "classifier.bias",
    }  # fmt: skip
    assert tuned["classifier.weight"].shape[0] == 3
    config = timm.get_pretrained_cfg("test_efficientnet")
    assert (teacher.config()["mean"], teacher.config()["std"]) == ([*config.mean], [*config.std])
    command = ["distill", "--teacher", str(teacher.path), "--student", "resnet8x4", "--data", str(photos), "--runs",
               str(teacher.path.parent), "--name", "student", "--method", "kd"]  # fmt: skip
    assert main([*command, *FLAGS]) == 0
    student = RunFolder(teacher.path.parent / "student")
    assert student.config()["teacher_weights"]
    assert student.summary()["teacher"]["top1"] == pytest.approx(teacher.summary()["last"]["val_top1"])


def folder(path, names):
    generator = np.random.default_rng(1)
    for name in names:
        (path / name).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path / name / f"{i}.png")
    return str(path)


@pytest.mark.parametrize("names", [("ant", "bee"), ("ant", "bee", "cat")])
def test_a_finished_run_is_trained_for_other_classes_with_a_new_head(teacher, tmp_path, names):
    data = folder(tmp_path / "data", names)
    settings = {"model": str(teacher.path), "data": data, "runs": str(tmp_path), "freeze_epochs": 1, "seed": 1, **FAST}
    with pytest.raises(InputError, match="new_head=true"):
        train(name="refused", **settings)
    run = train(name="other", new_head=True, **settings).record
    before, after = load_file(teacher.student), load_file(run.student)
    assert torch.equal(before["blocks.0.0.conv.weight"], after["blocks.0.0.conv.weight"])
    assert after["classifier.weight"].shape[0] == len(names)
    started = before["classifier.weight"][: len(names)]
    assert (after["classifier.weight"] - started).abs().mean() > 0.5 * started.abs().mean()  # it began elsewhere
    assert (run.config()["mean"], run.config()["image_size"]) == (teacher.config()["mean"], 40)


def test_a_head_of_another_size_is_refused_unless_a_new_one_is_requested(photos, checkpoint, tmp_path):
    with pytest.raises(InputError, match="new_head=true"):
        train(model="timm:test_efficientnet", checkpoint=str(checkpoint), data=str(photos), runs=str(tmp_path), **FAST)


def test_no_new_head_is_suggested_where_none_can_be_requested(photos, checkpoint, teacher, capsys):
    weights = ["--student", "timm:test_efficientnet", "--student_checkpoint", str(checkpoint)]
    assert main(["distill", "--teacher", str(teacher.path), *weights, "--data", str(photos), *FLAGS]) == 2
    said = capsys.readouterr().err
    assert "the checkpoint has 7 classes" in said
    weights = ["--model", "timm:test_efficientnet", "--checkpoint", str(checkpoint)]
    assert main(["evaluate", *weights, "--data", str(photos)]) == 2
    said += capsys.readouterr().err
    assert "class_map=auto" in said
    assert "new_head" not in said


def test_a_new_head_on_random_weights_is_refused(photos, tmp_path, capsys):
    assert main(["train", "--model", "resnet8", "--new_head", "true", "--data", str(photos)]) == 2
    assert "new_head=true: model=resnet8 starts from random weights, its head included" in capsys.readouterr().err
    assert main(["evaluate", "--model", "resnet8", "--new_head", "true", "--data", str(photos)]) == 2
    assert "there is no argument --new_head" in capsys.readouterr().err
