from __future__ import annotations

import pytest

from stillroom.config import make_recipe
from stillroom.prepare.models_and_method import set_up
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.set_up_detection import set_up_detection
from stillroom.prepare.start_notes import data_notes, training_notes
from tests.conftest import tiny_model, tiny_set
from tests.prepare import test_set_up_detection as detection
from tests.prepare.test_run_identity import FAST


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ({"bank": "b"}, "bank not used: a run that learns from labels has no teacher"),
        ({"batch_size": 100}, "batch_size=100 takes all 80 training images at once"),
        ({"epochs": 2, "milestones": [1, 9]}, "the learning rate does not fall at 9"),
        ({"bn_momentum": 0.01}, "batch norms average over some 100 steps and an epoch has 5"),
    ],
)
def test_settings_that_are_probably_not_meant_are_noted(tiny_data, settings, note):
    def notes(**settings):
        recipe = make_recipe("train", {**FAST, "model": "m", "data": "tiny", **settings})
        return training_notes(set_up(recipe, Inputs(student=tiny_model(), data=tiny_data), tiny_data), recipe)

    assert notes() == []
    (found,) = notes(**settings)
    assert note in found


def test_a_run_that_is_trained_again_lends_its_mean_and_std_with_a_note(tiny_data, tmp_path):
    first = make_recipe("train", {**FAST, "model": "m", "data": "tiny"})
    setup = set_up(first, Inputs(student=tiny_model(), data=tiny_data), tiny_data)
    (tmp_path / "config.yaml").touch()
    settings = {**FAST, "model": str(tmp_path), "data": "tiny"}
    assert training_notes(setup, make_recipe("train", settings)) == [
        f"mean and std are those of the run {tmp_path}; mean= and std= set others"
    ]
    given = {"mean": [0.5] * 3, "std": [0.2] * 3}
    assert training_notes(setup, make_recipe("train", settings | given)) == []


def test_a_frozen_backbone_of_random_weights_is_noted(tiny_data):
    recipe = make_recipe("train", {**FAST, "model": "resnet8", "data": "tiny", "freeze_epochs": 1})
    (found,) = training_notes(set_up(recipe, Inputs(data=tiny_data), tiny_data), recipe)
    assert "freeze_epochs=1: the trained model starts from random weights" in found


@pytest.mark.parametrize(
    ("settings", "noted"),
    [
        ({}, True),
        ({"lr": 0.2}, True),
        ({"lr": 0.01}, False),
        ({"backbone_lr_factor": 0.1}, False),
        ({"epochs": 2, "freeze_epochs": 2}, False),
        ({"checkpoint": None}, False),
    ],
)
def test_trained_weights_with_the_learning_rate_of_random_ones_are_noted(tiny_data, settings, noted):
    given = {**FAST, "lr": None, "model": "resnet8", "data": "tiny"}
    setup = set_up(make_recipe("train", given), Inputs(data=tiny_data), tiny_data)
    trained = make_recipe("train", given | {"checkpoint": "weights.safetensors"} | settings)
    found = [note for note in training_notes(setup, trained) if "can destroy those that the model starts from" in note]
    assert len(found) == noted


def test_copies_and_images_left_out_are_noted(tiny_data):
    assert data_notes(tiny_data) == []
    twice = type(tiny_data)(
        "tiny", tiny_set(20), tiny_set(20).at(tiny_set(20).ids[:3]), (0.5,) * 3, (0.25,) * 3, tiny_data.augment,
        broken=tuple(f"{i}.png: empty" for i in range(12)),
    )  # fmt: skip
    *names, more, copies = data_notes(twice)
    assert names == [f"left out: {i}.png: empty" for i in range(10)]
    assert more == "left out: 2 more that cannot be read"
    assert "3 of the 3 validation images are training images as well" in copies


def test_weights_of_classification_are_noted_for_detectors():
    def notes(method):
        recipe = detection.recipe("distill", teacher="t", student="s", method=method)
        setup = set_up_detection(recipe, detection.inputs(), detection.boxed_data())
        return [note for note in training_notes(setup, recipe) if "classification" in note]

    (found,) = notes("ldrld")
    assert "method=ldrld has the weight and temperature of classification" in found
    assert notes("0.1*ldrld(temperature=1)") == []
