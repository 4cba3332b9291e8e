from __future__ import annotations

import pytest

from stillroom.config import make_recipe
from stillroom.errors import InputError
from stillroom.optimizer_names import OWN, timm_default, timm_optimizers

PAIR = {"teacher": "t", "student": "resnet8", "data": "d"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lam", "optimizer=lam: give sgd, adamw, dot, deepkd, or a name of timm.optim .*did you mean .*lamb"),
        ("SGD", "did you mean sgd"),
        ("adahessian", "optimizer=adahessian: it requires the graph of the gradients"),
        ("kron", "optimizer=kron: it draws random numbers that its state does not hold"),
        ("fusedlamb", "optimizer=fusedlamb: it requires the package apex"),
    ],
)
def test_an_optimizer_that_cannot_be_used_is_refused_before_anything_is_loaded(name, message):
    with pytest.raises(InputError, match=message):
        make_recipe("distill", PAIR | {"optimizer": name})


def test_an_optimizer_of_timm_has_its_own_defaults_and_takes_other_values():
    optim = make_recipe("distill", PAIR | {"optimizer": "lion"}).optim
    assert (optim.lr, optim.weight_decay, optim.schedule) == (timm_default("lion", "lr"), 0.0, "cosine")
    optim = make_recipe("distill", PAIR | {"optimizer": "lamb", "lr": 0.005, "weight_decay": 0.02}).optim
    assert (optim.lr, optim.weight_decay) == (0.005, 0.02)


def test_an_optimizer_without_a_default_learning_rate_requires_one():
    with pytest.raises(InputError, match="lr is missing: optimizer=sgdp has no default learning rate; give lr"):
        make_recipe("distill", PAIR | {"optimizer": "sgdp"})


def test_all_usable_optimizers_are_listed_once():
    assert {"lamb", "lion", "adopt"} <= timm_optimizers().keys()
    assert not timm_optimizers().keys() & ({"adahessian", "kron", "fusedlamb"} | OWN.keys())


def test_dot_and_deepkd_have_the_defaults_of_sgd_and_their_published_momenta():
    for name, delta in (("dot", [0.075]), ("deepkd", [0.075, -0.075, 0.05])):
        optim = make_recipe("distill", PAIR | {"optimizer": name}).optim
        assert (optim.lr, optim.weight_decay, optim.schedule, optim.delta) == (0.05, 5e-4, "milestones", delta)
    assert make_recipe("distill", PAIR | {"optimizer": "dot", "delta": 0.09}).optim.delta == [0.09]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delta": 0.1}, "delta=0.1: optimizer=sgd has one momentum; leave delta out"),
        ({"optimizer": "deepkd", "delta": 0.1}, "delta=0.1: give 3 numbers for optimizer=deepkd"),
        ({"optimizer": "dot", "delta": [0.1, 0.2]}, "give 1 number for optimizer=dot"),
        (
            {"optimizer": "dot", "delta": 0.1},
            "delta=0.1: give numbers that keep momentum=0.9 at least 0 and below 1",
        ),
        ({"optimizer": "dot", "momentum": 0.05}, r"delta=\[0.075\]: give numbers that keep momentum=0.05"),
        ({"optimizer": "dot", "nesterov": True}, "nesterov=True: give false, or optimizer=sgd"),
        ({"optimizer": "dot", "deepkd_as_coded": True}, "deepkd_as_coded=True: give false, or optimizer=deepkd"),
    ],
)
def test_settings_of_streams_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        make_recipe("distill", PAIR | settings)


def test_without_a_teacher_there_are_no_streams():
    with pytest.raises(InputError, match="optimizer=dot: give sgd: without a teacher there is one stream"):
        make_recipe("train", {"model": "resnet8", "data": "d", "optimizer": "dot"})
