"""Detectors, a method and images with boxes that fit each other. Whole runs: tests/test_detection_runs.py."""

from __future__ import annotations

import pytest
import torch

from stillroom.config import make_recipe
from stillroom.errors import InputError
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.set_up_detection import set_up_detection
from tests.boxed_data import boxed_data
from tests.conftest import tiny_model
from tests.tasks.tiny_detector import tiny_detector


def recipe(command="distill", **settings):
    names = {"data": "d"} | ({"teacher": "t", "student": "s"} if command == "distill" else {})
    return make_recipe(command, {**names, **settings})


def inputs(**given):
    return Inputs(**{"teacher": tiny_detector(classes=2), "student": tiny_detector(classes=2), **given})


def test_images_are_normalised_as_the_student_does_and_the_teacher_as_its_own_transform():
    other = tiny_detector(classes=2)
    other.transform.image_mean = [0.4, 0.4, 0.4]
    said = []
    made = set_up_detection(recipe(method="kd"), inputs(teacher=other), boxed_data(), say=said.append)
    assert (made.data.mean, made.data.std) == ((0.0,) * 3, (1.0,) * 3)
    assert made.teacher.members[0].raw.input_format.mean == pytest.approx((0.4,) * 3)
    assert "takes images with" in said[0]


def test_connecting_changes_neither_detector():
    given = inputs()
    before = {name: value.clone() for name, value in given.student.state_dict().items()}
    set_up_detection(recipe(method="fitnet"), given, boxed_data())
    assert all(torch.equal(value, before[name]) for name, value in given.student.state_dict().items())
    assert not any(vars(module).get("_forward_hooks") for module in given.student.modules())


def test_a_classifier_is_no_detector():
    with pytest.raises(InputError, match="is not a two-stage detector"):
        set_up_detection(recipe(), inputs(student=tiny_model()), boxed_data())


def test_another_number_of_classes_is_refused():
    with pytest.raises(InputError, match="region logits"):
        set_up_detection(recipe(), inputs(teacher=tiny_detector(classes=5)), boxed_data())
