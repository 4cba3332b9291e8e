from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import stillroom
from stillroom.errors import InputError
from tests.conftest import tiny_model

FAST = {"epochs": 1, "batch_size": 40, "lr": 0.05, "accelerator": "cpu", "precision": "32", "name": "run"}


class Remembering(nn.Module):
    """A loss that begins its memory with the first logits it sees, and writes down what it sees."""

    def __init__(self, seen):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.seen = seen

    def forward(self, student_logits, teacher_logits):
        self.calls += 1
        with self.seen.open("a") as file:
            file.write(f"{int(self.calls)} {len(student_logits)}\n")
        return F.mse_loss(student_logits, teacher_logits)


class Penalty(nn.Module):
    def __init__(self, held):
        super().__init__()
        self.held = held

    def forward(self, student_logits):
        weights = self.held() if callable(self.held) and not isinstance(self.held, nn.Module) else self.held
        if isinstance(weights, nn.Module):
            weights = weights.parameters()
        return sum(value.pow(2).sum() for value in weights) + 0 * student_logits.sum()


def distil(folder, data, method, student=None, teacher=None):
    return stillroom.distill(
        teacher=teacher or tiny_model(width=16), student=student or tiny_model(), data=data, method=method,
        runs=str(folder), **FAST,
    )  # fmt: skip


def test_a_loss_with_a_memory_sees_nothing_but_training_batches(tmp_path, tiny_data):
    seen = tmp_path / "seen"
    _, record = distil(tmp_path, tiny_data, Remembering(seen))
    lines = seen.read_text().splitlines()
    assert lines[-2:] == ["1 40", "2 40"]
    assert float(torch.load(record.last, weights_only=True)["method"]["losses.0.calls"]) == 2


@pytest.mark.parametrize("held", [lambda model: model, lambda model: model[0], lambda model: list(model.parameters())])
def test_a_loss_that_holds_the_students_weights_is_refused(tmp_path, tiny_data, held):
    student = tiny_model()
    with pytest.raises(InputError, match=r"loss Penalty holds weights of the student.*lambda"):
        distil(tmp_path, tiny_data, Penalty(held(student)), student)
    assert not (tmp_path / "run").exists()


def test_a_loss_with_a_function_reads_the_weights_that_are_trained(tmp_path, tiny_data):
    student = tiny_model()
    before = sum(float(value.detach().pow(2).sum()) for value in student.parameters())
    _, record = distil(tmp_path, tiny_data, Penalty(lambda: student.parameters()), student)
    assert record.epochs()[0]["terms"]["penalty"] < 0.99 * before  # the second step sees smaller ones


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_layers_without_a_shape_are_refused(tmp_path, tiny_data, role):
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    with pytest.raises(InputError, match=rf"{role}: 1\.weight has no shape yet"):
        distil(tmp_path, tiny_data, "kd", **{role: lazy})
    lazy(torch.zeros(2, 3, 8, 8))
    distil(tmp_path, tiny_data, "kd", **{role: lazy})


def test_a_loss_that_cannot_be_copied_is_refused_in_one_line(tmp_path, tiny_data):
    held = torch.ones(2, requires_grad=True) * 2
    with pytest.raises(InputError, match=r"cannot be copied for the run .*detach"):
        distil(tmp_path, tiny_data, Penalty([held]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_teacher_distils(tmp_path, tiny_data):
    teacher = tiny_model(width=16)
    scripted = torch.jit.script(teacher)
    _, record = distil(tmp_path, tiny_data, "kd", teacher=scripted)
    expected = stillroom.evaluate(model=teacher, data=tiny_data)
    assert record.summary()["teacher"]["loss"] == pytest.approx(expected.loss, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "value"), [("per_class", 7), ("first_classes", 3), ("only_classes", ["a", "b"]), ("val_fraction", 0.3)]
)
def test_settings_that_would_do_nothing_to_loaded_images_are_refused(tmp_path, tiny_data, name, value):
    given = {"data": tiny_data, name: value}
    for call in (
        lambda: stillroom.distill(teacher=tiny_model(), student=tiny_model(), runs=str(tmp_path), **FAST, **given),
        lambda: stillroom.train(model=tiny_model(), runs=str(tmp_path), **FAST, **given),
        lambda: stillroom.evaluate(model=tiny_model(), **given),
    ):
        with pytest.raises(InputError, match=rf"{name}={re.escape(str(value))} does nothing to a DataSet.*load_data"):
            call()
    stillroom.evaluate(model=tiny_model(), data=tiny_data, image_size=8, per_class=None, val_fraction=0.1)
