"""A pretrained network becomes a teacher for other classes in one command, and teaches a student in a second."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from stillroom import distill, train
from stillroom.cli import main
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.runtime.reporters import Lines
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


def test_no_new_head_is_suggested_where_none_can_be_requested(photos, checkpoint, capsys):
    weights = ["--model", "timm:test_efficientnet", "--checkpoint", str(checkpoint)]
    assert main(["evaluate", *weights, "--data", str(photos)]) == 2
    said = capsys.readouterr().err
    assert "class_map=auto" in said
    assert "new_head" not in said


def warm(teacher, photos, tmp_path, student, **settings):
    settings = {**FAST, "method": "kd", "lr": 1e-6, "pad": 0, **settings}
    models = {"teacher": str(teacher.path), "student": student, "data": str(photos), "runs": str(tmp_path)}
    return distill(**models, trust=True, **settings).record


def begins_as(before, run, head="classifier"):
    """Whether a run of a tiny learning rate ends with the weights of a file, but for the head and the statistics."""
    after = load_file(run.student)
    names = [name for name in before if not name.startswith(head) and name.endswith("weight")]
    return len(names) > 3 and all(torch.allclose(after[name], before[name], atol=1e-3) for name in names)


def test_a_student_begins_with_a_checkpoint_of_other_classes_and_a_new_head(photos, checkpoint, teacher, tmp_path):
    weights = {"student_checkpoint": str(checkpoint), "name": "warm"}
    with pytest.raises(InputError, match=r"student: .*the checkpoint has 7 classes.*new_head=true"):
        warm(teacher, photos, tmp_path, "timm:test_efficientnet", **weights)
    run = warm(teacher, photos, tmp_path, "timm:test_efficientnet", new_head=True, **weights)
    assert begins_as(load_file(checkpoint), run)
    assert load_file(run.student)["classifier.weight"].shape[0] == 3
    assert (run.config()["student_checkpoint"], run.config()["new_head"]) == (str(checkpoint), True)


def test_a_student_begins_with_a_run_of_other_classes_and_a_new_head(photos, teacher, tmp_path):
    other = folder(tmp_path / "data", ("ant", "bee"))
    begin = train(model="timm:test_efficientnet", data=other, runs=str(tmp_path), name="begin", **FAST).record
    with pytest.raises(InputError, match=r"student: .*new_head=true"):
        warm(teacher, photos, tmp_path, str(begin.path), name="refused")
    run = warm(teacher, photos, tmp_path, str(begin.path), name="warm", new_head=True)
    assert begins_as(load_file(begin.student), run)
    assert run.config()["student"] == str(begin.path)


def test_a_student_begins_with_published_weights_for_other_classes(photos, teacher, tmp_path, monkeypatch):
    """No weights are fetched here: timm's function that loads them is given those of a random network."""
    torch.manual_seed(5)
    published = timm.create_model("test_efficientnet").state_dict()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(published))
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", lambda *_, **__: dict(published))
    said = []
    monkeypatch.setattr("stillroom.api.make_reporter", lambda _: Lines(said.append))
    run = warm(teacher, photos, tmp_path, "timm:test_efficientnet", name="warm", student_pretrained=True,
               mean=[0.4] * 3, std=[0.2] * 3)  # fmt: skip
    assert begins_as(published, run)
    assert load_file(run.student)["classifier.weight"].shape[0] == 3
    assert any("the weights of timm:test_efficientnet were published for" in line for line in said)


def test_a_checkpoint_of_another_architecture_is_refused_before_training(photos, teacher, tmp_path):
    torch.manual_seed(5)
    state = timm.create_model("test_efficientnet", num_classes=3).state_dict()
    state.pop("blocks.0.0.conv.weight")
    save_file(state, tmp_path / "part.safetensors")
    settings = {"student_checkpoint": str(tmp_path / "part.safetensors"), "new_head": True, "name": "refused"}
    with pytest.raises(InputError, match=r"1 missing \(blocks\.0\.0\.conv\.weight\)"):
        warm(teacher, photos, tmp_path, "timm:test_efficientnet", **settings)
    assert not (tmp_path / "refused").exists()


def test_a_new_head_on_random_weights_is_refused(photos, tmp_path, capsys):
    assert main(["train", "--model", "resnet8", "--new_head", "true", "--data", str(photos)]) == 2
    assert "new_head=true: model=resnet8 starts from random weights, its head included" in capsys.readouterr().err
    distil = ["distill", "--teacher", "resnet8", "--teacher_checkpoint", "x.pt", "--student", "resnet8"]
    assert main([*distil, "--new_head", "true", "--data", str(photos)]) == 2
    assert (
        "student=resnet8 starts from random weights, its head included; give student_check" in capsys.readouterr().err
    )
    assert main(["evaluate", "--model", "resnet8", "--new_head", "true", "--data", str(photos)]) == 2
    assert "there is no argument --new_head" in capsys.readouterr().err
