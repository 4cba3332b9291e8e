from __future__ import annotations

import pytest

from stillroom.config import make_recipe
from stillroom.data.unlabelled_folder import UNNAMED
from stillroom.prepare.known_classes import known_classes

NO_LABELS = {"student": "resnet8", "data": "photos", "labels": "none"}


@pytest.fixture
def names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("cat\ndog\nowl\n", encoding="utf-8")
    return str(path)


def test_images_without_labels_have_the_classes_that_the_teacher_names(names):
    recipe = make_recipe("distill", NO_LABELS | {"teacher": "timm:test_resnet", "teacher_classes": names})
    assert known_classes(recipe) == ("cat", "dog", "owl")


def test_a_student_of_embeddings_has_two_classes_without_a_name():
    recipe = make_recipe(
        "distill", NO_LABELS | {"teacher": "timm:test_resnet", "teacher_output": "embedding", "method": "embed_cosine"}
    )
    assert known_classes(recipe) == UNNAMED


def test_labels_say_the_classes_themselves(names):
    settings = NO_LABELS | {"labels": "auto", "teacher": "timm:test_resnet", "teacher_classes": names}
    assert known_classes(make_recipe("distill", settings)) is None


def test_a_teacher_without_names_leaves_the_classes_unknown():
    assert known_classes(make_recipe("distill", NO_LABELS | {"teacher": "resnet8"})) is None
