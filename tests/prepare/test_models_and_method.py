from __future__ import annotations

import pytest
import torch

from stillroom.config import make_recipe
from stillroom.errors import InputError
from stillroom.prepare.models_and_method import labels_by_id, set_up
from stillroom.prepare.python_inputs import Inputs
from stillroom.trust import given
from tests.conftest import tiny_model
from tests.prepare.test_run_identity import FAST

MODEL = "tests.conftest:tiny_model"


def made(data, inputs, **settings):
    recipe = make_recipe("distill", {**FAST, "teacher": "t", "student": MODEL, "data": "tiny", **settings})
    with torch.random.fork_rng():
        return set_up(recipe, inputs, data)


def test_initial_weights_depend_on_the_seed_alone(tiny_data):
    inputs = Inputs(teacher=tiny_model(width=16), trust=given([MODEL]))
    first, again, other = (made(tiny_data, inputs, method="vid", seed=seed) for seed in (0, 0, 1))
    for one, same, different in zip(
        (*first.joint.student.parameters(), *first.method.parameters()),
        (*again.joint.student.parameters(), *again.method.parameters()),
        (*other.joint.student.parameters(), *other.method.parameters()),
        strict=True,
    ):
        assert torch.equal(one, same)
        assert one.ndim < 2 or not torch.equal(one, different)


def test_images_have_the_normalisation_and_augmentation_of_the_run(tiny_data):
    inputs = Inputs(teacher=tiny_model(), trust=given([MODEL]))
    data = made(tiny_data, inputs, mean=[0.1, 0.2, 0.3], std=[0.2, 0.4, 0.5], flip=False, pad=2).data
    assert (data.mean, data.std) == ((0.1, 0.2, 0.3), (0.2, 0.4, 0.5))
    assert (data.augment.flip, data.augment.pad) == (False, 2)
    assert data.train.digests is not None


def test_labels_by_id_leave_out_ids_that_do_not_occur(tiny_data):
    part = tiny_data.train.at(torch.tensor([3, 7]))
    labels = labels_by_id(type(tiny_data)("part", part, part, (0.5,) * 3, (0.25,) * 3, tiny_data.augment))
    assert labels.tolist() == [-1, -1, -1, 3, -1, -1, -1, 3]


def test_a_loss_without_background_is_refused_for_images_with_one_label(tiny_data):
    with pytest.raises(InputError, match="these images have none"):
        made(tiny_data, Inputs(teacher=tiny_model(), trust=given([MODEL])), method="standardized(foreground(kd))")
