from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import stillroom
from stillroom.compare.grid import make_grid
from stillroom.compare.options import CompareOptions
from stillroom.errors import InputError
from stillroom.losses import KD
from stillroom.resolve_model import fingerprint
from tests.conftest import colour_folder, tiny_model

FAST = {"epochs": 1, "batch_size": 16, "lr": 0.05, "accelerator": "cpu", "precision": "32"}


def test_own_modules_go_in_and_come_out(tmp_path, tiny_data):
    teacher, student = tiny_model(width=16), tiny_model()
    trained, record = stillroom.distill(
        teacher=teacher, student=student, data=tiny_data, method="kd", runs=str(tmp_path), **FAST
    )
    assert trained is student
    assert record.summary()["last"]["terms"].keys() == {"ce", "kd"}
    assert record.config()["student"] == "torch.nn.modules.container.Sequential"
    assert record.path.parent == tmp_path


def test_a_run_whose_module_was_handed_in_says_that_no_name_builds_it(tmp_path, tiny_data):
    model, record = stillroom.train(model=tiny_model(), data=tiny_data, runs=str(tmp_path), **FAST)
    with pytest.raises(InputError, match=r"model=.*handed in as a module .*Sequential.*pass the module itself"):
        stillroom.evaluate(model=str(record.path), data=tiny_data)
    with pytest.raises(InputError, match=r"teacher=.*handed in as a module .*Sequential.*pass the module itself"):
        stillroom.distill(teacher=str(record.path), student=tiny_model(), data=tiny_data, **FAST)
    stillroom.distill(teacher=model, student=tiny_model(), data=tiny_data, runs=str(tmp_path), name="s", **FAST)


def test_a_loss_module_is_a_method(tmp_path, tiny_data):
    _, record = stillroom.distill(
        teacher=tiny_model(),
        student=tiny_model(),
        data=tiny_data,
        method=KD(temperature=2.0),
        runs=str(tmp_path),
        **FAST,
    )
    assert record.config()["method"] == "1*ce + 1*KD(temperature=2.0)"


def test_training_from_python_is_the_command_lines(tmp_path, tiny_data):
    model, record = stillroom.train(model=tiny_model(), data=tiny_data, runs=str(tmp_path), name="here", **FAST)
    assert record.path == tmp_path / "here"
    assert stillroom.evaluate(model=model, data=tiny_data).top1 == pytest.approx(record.summary()["last"]["val_top1"])


def test_a_function_of_ones_own_builds_a_model(tmp_path, tiny_data):
    _, record = stillroom.train(model="tests.conftest:tiny_model", data=tiny_data, runs=str(tmp_path), **FAST)
    assert record.config()["model"] == "tests.conftest:tiny_model"


def test_a_run_is_a_teacher_with_its_own_normalisation(tmp_path, tiny_data):
    where = {"data": tiny_data, "runs": str(tmp_path), **FAST}
    mine = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    _, teacher = stillroom.train(model="tests.conftest:tiny_model", name="t", **mine, **where)
    _, student = stillroom.distill(
        teacher=str(teacher.path), student=tiny_model(), method="kd", name="s", trust=True, **where
    )
    assert student.config()["mean"] == mine["mean"]
    assert student.summary()["teacher"]["top1"] == pytest.approx(teacher.summary()["last"]["val_top1"])


def test_images_get_the_size_that_the_teacher_was_trained_at(tmp_path):
    (tmp_path / "photos").mkdir()
    photos = colour_folder(tmp_path / "photos", count=8, side=16)
    where = {"data": str(photos), "runs": str(tmp_path), **FAST}
    model = "tests.conftest:tiny_model"
    _, teacher = stillroom.train(model=model, name="t", image_size=12, **where)
    _, student = stillroom.distill(teacher=str(teacher.path), student=model, method="kd", name="s", **where)
    assert (student.config()["image_size"], student.config()["image_shape"]) == (12, [3, 12, 12])
    sizes = ({}, {"image_size": 12})
    found = [stillroom.evaluate(model=str(teacher.path), data=str(photos), trust=True, **size) for size in sizes]
    assert found[0] == found[1]
    _, other = stillroom.distill(
        teacher=str(teacher.path), student=model, method="kd", name="o", image_size=14, **where
    )
    assert other.config()["image_shape"] == [3, 14, 14]
    pairs = CompareOptions(teachers=str(teacher.path), students=model, methods="kd", seeds=1)
    (cell,) = make_grid(pairs, {"data": str(photos), "runs": str(tmp_path)}).cells
    assert cell.recipe.data.image_size == 12


def test_class_counts_that_differ_are_refused_before_training(tmp_path, tiny_data):
    with pytest.raises(InputError, match=r"student.*4.*5|student.*5.*4"):
        stillroom.distill(
            teacher=tiny_model(),
            student=tiny_model(num_classes=5),
            data=tiny_data,
            runs=str(tmp_path),
            method="kd",
            **FAST,
        )
    assert list(tmp_path.iterdir()) == []


def test_wrong_settings_are_refused(tmp_path, tiny_data):
    same = tiny_model()
    with pytest.raises(InputError, match="same module"):
        stillroom.distill(teacher=same, student=same, data=tiny_data, runs=str(tmp_path), **FAST)
    with pytest.raises(InputError, match="did you mean epochs"):
        stillroom.train(model=tiny_model(), data=tiny_data, runs=str(tmp_path), epoch=3)
    with pytest.raises(InputError, match="3 channels"):
        stillroom.train(model=tiny_model(), data=tiny_data, runs=str(tmp_path), mean=[0.5], std=[0.5], **FAST)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").write_text("model: resnet8\nmean: [0.5]\nstd: [0.5]\n")
    (tmp_path / "half" / "inputs.json").write_text('{"classes": []}')
    with pytest.raises(InputError, match="not finished"):
        stillroom.evaluate(model=str(tmp_path / "half"), data=tiny_data, mean=[0.5] * 3, std=[0.5] * 3)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"model": torch.nn.Linear}, "is a class: give an instance, Linear"),
        ({"model": 3}, "model=3: give a name, a run folder, or a torch.nn.Module"),
        ({"data": [1, 2]}, "data=list: give a name, a folder, or a stillroom.data.DataSet"),
        ({"epochs": "3"}, "epochs='3': give a whole number"),
        ({"pretrained": True}, "the model was passed as a module and has its weights; leave pretrained out"),
        ({"pretrained": True, "model": "timm:resnet18", "checkpoint": __file__}, "both name weights; give one"),
        ({"checkpoint": "none.pt"}, "checkpoint=none.pt: there is no such file"),
    ],
)
def test_arguments_of_the_wrong_kind_are_named(tmp_path, tiny_data, wrong, says):
    with pytest.raises(InputError, match=re.escape(says)):
        stillroom.train(**{"model": tiny_model(), "data": tiny_data, "runs": str(tmp_path), **FAST, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_evaluate_and_distill_name_wrong_arguments_too(tiny_data):
    with pytest.raises(InputError, match=r"no setting 'epochs'.*known are"):
        stillroom.evaluate(model=tiny_model(), data=tiny_data, epochs=3)
    with pytest.raises(InputError, match="accelerator='gpu': give auto or cpu"):
        stillroom.evaluate(model=tiny_model(), data=tiny_data, accelerator="gpu")
    with pytest.raises(InputError, match=r"method=.*give text such as 'kd\(temperature=2\)', a Method, or one loss"):
        stillroom.distill(teacher=tiny_model(), student=tiny_model(), data=tiny_data, method=KD)


def test_a_path_serves_as_a_run_and_a_checkpoint_takes_the_place_of_its_weights(tmp_path, tiny_data):
    model = "tests.conftest:tiny_model"
    runs = [
        stillroom.train(model=model, data=tiny_data, runs=tmp_path, name=f"r{seed}", seed=seed, **FAST).record
        for seed in (0, 1)
    ]
    one, other = (stillroom.evaluate(model=run.path, data=tiny_data, trust=True) for run in runs)
    assert one != other
    assert stillroom.evaluate(model=runs[0].path, data=tiny_data, checkpoint=runs[1].student, trust=True) == other


def test_what_there_is_is_listed_and_loaded_when_it_is_used():
    code = (
        "import sys, stillroom\n"
        "assert {'train', 'distill', 'evaluate', 'losses', 'InputError'} <= set(dir(stillroom))\n"
        "assert 'torch' not in sys.modules\n"
        "assert stillroom.losses.KD\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="distil"):
        stillroom.distil  # noqa: B018


def test_a_teacher_of_other_classes_is_refused(tmp_path, tiny_data):
    where = {"runs": str(tmp_path), **FAST}
    _, teacher = stillroom.train(model="tests.conftest:tiny_model", data=tiny_data, name="t", **where)
    train, val = (replace(part, classes=("a", "b", "c", "d")) for part in (tiny_data.train, tiny_data.val))
    other = replace(tiny_data, train=train, val=val)
    with pytest.raises(InputError, match=r"no class of the data \(a, b, c .* is a class of the teacher \(class 0"):
        stillroom.distill(teacher=str(teacher.path), student=tiny_model(), data=other, method="kd", trust=True, **where)


def test_fingerprints_tell_weights_apart():
    torch.manual_seed(0)
    one = tiny_model()
    before = fingerprint(one)
    assert fingerprint(one) == before
    with torch.no_grad():
        one[0].weight[0, 0, 0, 0] += 1e-6
    assert fingerprint(one) != before
