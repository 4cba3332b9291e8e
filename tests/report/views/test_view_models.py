from __future__ import annotations

import pytest
import torch

from stillroom.errors import InputError
from stillroom.report.views import view_models
from stillroom.report.views.view_models import (
    StudentLogits,
    missing_teacher,
    normalised,
    student_networks,
    teacher_logits,
    teacher_network,
)
from tests.report.views.made import Looker, made_data, made_pair, random_logits

LOGITS = {"kd": random_logits(1), "ours": random_logits(2)}
METHODS = {"kd": "kd", "ours": "dkd"}


def test_logits_are_those_of_each_method_in_the_pairs_order(monkeypatch):
    students = StudentLogits(made_pair(monkeypatch, METHODS, LOGITS))
    assert list(students) == ["kd", "ours"]
    assert torch.equal(students["ours"], LOGITS["ours"])


def test_chosen_images_come_normalised_in_the_order_asked_for():
    data = made_data()
    images, labels = normalised(data, [7, 2])
    pixels = data.val.images[[7, 2]].float() / 255
    torch.testing.assert_close(images, (pixels - 0.5) / 0.25)
    assert labels.tolist() == data.val.labels[[7, 2]].tolist()


def test_a_teacher_that_cannot_be_built_again_keeps_its_logits_and_the_reason_is_told(monkeypatch):
    taught = random_logits(0)
    pair = made_pair(monkeypatch, METHODS, LOGITS, taught, teacher_model=Looker())
    assert teacher_network(pair) is not None
    assert missing_teacher(pair) == ""

    def refuse(run, data):
        raise InputError("the teacher is gone")

    monkeypatch.setattr(view_models, "teacher_of", refuse)
    assert teacher_network(pair) is None
    assert missing_teacher(pair) == "the teacher is gone"
    assert torch.equal(teacher_logits(pair), taught)


def test_a_student_that_cannot_be_built_again_is_an_error_with_its_reason(monkeypatch):
    pair = made_pair(monkeypatch, METHODS, LOGITS)

    def refuse(run, data):
        raise InputError("it was handed in as a module")

    monkeypatch.setattr(view_models, "student_of", refuse)
    with pytest.raises(InputError, match="handed in as a module"):
        dict(student_networks(pair))
