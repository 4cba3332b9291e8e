from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import pytest

from stillroom.config import make_recipe
from stillroom.data import Augment
from stillroom.engine.run_folder import RunFolder
from stillroom.recipes import load_published, recipes_folder
from stillroom.report import published
from stillroom.report.discovery import FoundRun
from stillroom.report.published import published_accuracies
from tests.report.test_aggregate import made_run

WHOLE = {
    "classes": [str(i) for i in range(100)], "train_images": 50_000, "val_images": 10_000,
    "image_shape": [3, 32, 32],
}  # fmt: skip


def as_published(name):
    """The settings of a run that is made as a recipe says."""
    recipe = load_published(recipes_folder() / "cifar100" / "resnet56-resnet20" / f"{name}.yaml")
    return make_recipe("distill", recipe.settings).flat() | asdict(Augment()) | {"bn_momentum": 0.1, "image_size": 32}


@pytest.fixture
def found(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "named_set_of", lambda run: SimpleNamespace(augment=Augment()))

    def make(changes=None, inputs=None, recipe="kd"):
        settings = as_published(recipe) | (changes or {})
        del settings["name"]
        return FoundRun(RunFolder(made_run(tmp_path, "run", inputs=WHOLE | (inputs or {}), **settings)))

    return make


def test_published_accuracy_stands_beside_a_run_that_is_made_as_the_recipe_says(found):
    assert published_accuracies([found()]) == {"0.1*ce + 0.9*kd(temperature=4)": 70.66}


def test_a_run_of_a_version_without_the_newer_settings_is_made_as_the_recipe_says(found, monkeypatch):
    newer = ("sampling", "label_smoothing", "class_weights", "mixup", "cutmix", "mix_probability")
    run = found()
    config = {name: value for name, value in run.run.config().items() if name not in newer}
    monkeypatch.setattr(RunFolder, "config", lambda _: config)
    assert published_accuracies([FoundRun(run.run)]) == {"0.1*ce + 0.9*kd(temperature=4)": 70.66}


def test_a_name_that_stands_for_the_recipes_method_is_the_recipes_method(found):
    assert published_accuracies([found({"method": "kd"})]) == {"kd": 70.66}


OTHERS = [
    {"data": "data/cifar100"}, {"data": "./cifar100"}, {"epochs": 1}, {"batch_size": 128}, {"lr": 0.1}, {"pad": 0},
    {"flip": False}, {"milestones": [100]}, {"optimizer": "adamw"}, {"schedule": "cosine"}, {"first_classes": 100},
    {"per_class": 500}, {"skip_broken": 0.1}, {"student_pretrained": True}, {"bn_momentum": 0.01},
    {"sampling": "balanced"}, {"label_smoothing": 0.1}, {"mixup": 0.2}, {"patience": 240},
    {"method": "ldrld"},  # whose recipe has a depth of its own
]  # fmt: skip


@pytest.mark.parametrize("changes", OTHERS, ids=str)
def test_a_run_that_is_made_otherwise_has_none(found, changes):
    assert published_accuracies([found(changes)]) == {}


@pytest.mark.parametrize("inputs", [
    {"train_images": 5000}, {"val_images": 100}, {"image_shape": [3, 16, 16]}, {"classes": ["a", "b"]},
], ids=str)  # fmt: skip
def test_nothing_is_published_for_a_part_of_a_data_set(found, inputs):
    assert published_accuracies([found(inputs=inputs)]) == {}


def test_images_that_are_not_those_of_the_set_have_none(found, monkeypatch):
    run = found()
    monkeypatch.setattr(published, "named_set_of", lambda run: None)
    assert published_accuracies([run]) == {}


DETECTORS = "fasterrcnn_resnet101_fpn-fasterrcnn_resnet18_fpn"
OF_COCO = {
    "classes": [str(i) for i in range(80)], "train_images": 118_287, "val_images": 5_000,
    "image_shape": [3, 800, 800], "task": "detection",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "inputs", "expected"),
    [
        ({}, {}, [36.75]),
        ({"data": "anywhere"}, {}, [36.75]),
        ({"student_pretrained": False}, {}, []),
        ({"epochs": 6}, {}, []),
        ({"image_size": 400}, {}, []),
        ({"method": "reviewkd"}, {}, []),
        ({}, {"val_images": 4_999}, []),
    ],
)
def test_published_average_precision_stands_beside_a_detector_that_is_made_as_the_recipe_says(
    tmp_path, changes, inputs, expected
):
    recipe = load_published(recipes_folder() / "coco" / DETECTORS / "reviewkd.yaml")
    settings = make_recipe("distill", recipe.settings).flat() | {"student_pretrained": True} | changes
    del settings["name"], settings["task"]
    run = FoundRun(RunFolder(made_run(tmp_path, "run", inputs=OF_COCO | inputs, **settings)))
    assert [*published_accuracies([run]).values()] == expected


def test_published_average_precision_stands_beside_a_baseline_that_has_no_teacher(tmp_path):
    recipe = load_published(recipes_folder() / "coco" / DETECTORS / "baseline.yaml")
    shared = {
        key: value for key, value in recipe.settings.items() if key not in ("teacher", "student", "method", "task")
    }
    settings = make_recipe("train", {"model": recipe.settings["student"], "pretrained": True} | shared).flat()
    folder = made_run(tmp_path, inputs=OF_COCO, **{**settings, "name": "run"})
    assert published_accuracies([FoundRun(RunFolder(folder))]) == {"labels only": 33.26}
