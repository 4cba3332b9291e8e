"""Student and method from the settings."""

from __future__ import annotations

from stillroom.config import make_recipe
from stillroom.prepare.model_builders import build_method, build_student, student_source
from stillroom.prepare.python_inputs import Inputs


def made(**settings):
    return make_recipe("distill", {"teacher": "resnet20", "student": "resnet8", "data": "cifar100", **settings})


def test_the_same_seed_builds_the_same_student(tiny_data):
    one, other, another = (build_student(made(seed=seed), Inputs(), tiny_data) for seed in (1, 1, 2))
    first, same, different = (model.state_dict()["conv1.weight"] for model in (one, other, another))
    assert first.equal(same)
    assert not first.equal(different)


def test_a_weight_for_the_labels_counts_where_the_text_has_none():
    assert build_method(made(method="kd"), Inputs()).ce == 0.1
    assert build_method(made(method="kd"), Inputs(), supervised=1.0).ce == 1.0
    assert build_method(made(method="0.3*supervised + kd"), Inputs(), supervised=1.0).ce == 0.3


def test_the_source_of_the_student_is_its_own():
    assert student_source(made(student_pretrained=True, student="timm:resnet18")) == ("timm:resnet18", None, True)
