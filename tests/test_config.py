from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stillroom.config import make_recipe
from stillroom.errors import InputError

MINIMAL = {"model": "resnet20", "data": "cifar100"}
PAIR = {"teacher": "runs/big", "student": "resnet20", "data": "cifar100"}


def test_sgd_trains_with_one_cycle_twice_the_learning_rate_and_nesterov_momentum():
    optim = make_recipe("train", MINIMAL).optim
    assert (optim.optimizer, optim.schedule, optim.milestones) == ("sgd", "onecycle", [])
    assert (optim.lr, optim.nesterov, optim.weight_decay) == (0.1, True, 5e-4)
    assert make_recipe("train", MINIMAL | {"momentum": 0.0}).optim.nesterov is False


@pytest.mark.parametrize("given", [{"lr": 0.3}, {"nesterov": False}, {"schedule": "cosine"}])
def test_what_is_given_is_not_derived(given):
    (name, value), made = *given.items(), make_recipe("train", MINIMAL | given).optim
    assert getattr(made, name) == value
    if name == "schedule":
        assert (made.lr, made.nesterov) == (0.05, False)
    else:
        assert made.schedule == "onecycle"


@pytest.mark.parametrize(
    "given",
    [
        {"schedule": "milestones"},
        {"gamma": 0.2},
        {"milestones": [3, 9]},
        {"unfinished_warmup": True},
        {"milestones": []},
    ],
)
def test_a_setting_of_milestones_takes_the_published_schedule(given):
    optim = make_recipe("train", MINIMAL | given).optim
    assert (optim.schedule, optim.lr, optim.nesterov) == ("milestones", 0.05, False)
    assert optim.milestones == given.get("milestones", [150, 180, 210])


def test_the_optimizers_of_gradient_streams_stay_with_milestones():
    for optimizer in ("dot", "deepkd"):
        optim = make_recipe("distill", PAIR | {"optimizer": optimizer}).optim
        assert (optim.schedule, optim.lr, optim.nesterov) == ("milestones", 0.05, False)


def test_milestones_scale_with_the_epochs():
    optim = make_recipe("train", MINIMAL | {"schedule": "milestones", "epochs": 16}).optim
    assert optim.milestones == [10, 12, 14]


def test_adamw_brings_its_own_defaults():
    optim = make_recipe("train", MINIMAL | {"optimizer": "adamw"}).optim
    assert (optim.lr, optim.weight_decay, optim.schedule) == (1e-3, 0.05, "cosine")


def test_depthwise_students_have_a_fifth_of_the_rate_as_published():
    assert make_recipe("distill", PAIR | {"student": "ShuffleV2"}).optim.lr == 0.02
    assert make_recipe("distill", PAIR | {"student": "ShuffleV2", "schedule": "milestones"}).optim.lr == 0.01
    assert make_recipe("distill", PAIR | {"student": "ShuffleV2", "lr": 0.05}).optim.lr == 0.05
    assert make_recipe("distill", PAIR | {"student": "ShuffleV2", "optimizer": "adamw"}).optim.lr == 1e-3
    assert make_recipe("train", {"data": "glyphs100", "model": "MobileNetV2"}).optim.lr == 0.02


def test_flat_settings_make_the_same_recipe_again():
    recipe = make_recipe("distill", PAIR | {"method": "kd", "lr": 0.1, "mean": [0.5] * 3, "std": [0.2] * 3})
    assert make_recipe("distill", recipe.flat()) == recipe


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 1}, "batch_size=1"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"milestones": [9, 3]}, "milestones="),
        ({"warmup_epochs": 999}, "warmup_epochs=999"),
        ({"warmup_epochs": 1, "schedule": "milestones"}, "warmup_epochs=1: give 0, or at least 2"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov=True: give false, or a momentum above 0"),
        ({"first_classes": 1}, "first_classes=1"),
        ({"skip_broken": 1.0}, "skip_broken=1.0"),
        ({"min_scale": 0.0}, "min_scale=0.0"),
        ({"mean": [0.5, 0.5, 0.5]}, "std"),
        ({"name": "a/b"}, "name=a/b"),
        ({"seed": -1}, "seed=-1"),
        ({"epocs": 3}, "did you mean epochs"),
        ({"data": None}, "data is missing"),
    ],
)
def test_impossible_values_are_named(wrong, says):
    with pytest.raises(InputError, match=says.replace("[", r"\[")) as caught:
        make_recipe("train", MINIMAL | wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"epochs": "3"}, "epochs='3': give a whole number"),
        ({"epochs": 3.0}, "epochs=3.0: give a whole number"),
        ({"epochs": True}, "epochs=True: give a whole number"),
        ({"epochs": None}, "epochs=None: give a whole number"),
        ({"lr": "0.1"}, "lr='0.1': give a number"),
        ({"lr": 10**400}, "give a number"),
        ({"flip": 1}, "flip=1: give true or false"),
        ({"mean": 0.5}, r"mean=0.5: give a list of numbers such as [0.5, 0.5]"),
        ({"mean": "0.5"}, "mean='0.5': give a list of numbers"),
        ({"milestones": [1, "2"]}, "milestones=[1, '2']: give a list of whole numbers"),
        ({"runs": b"runs"}, "runs=b'runs': give text"),
        ({"schedule": "Cosine"}, "give milestones or cosine or onecycle or constant; did you mean cosine?"),
        ({"accelerator": "gpu"}, "accelerator='gpu': give auto or cpu or cuda or mps"),
        ({"precision": 16}, "precision=16: give auto or 32 or bf16"),
    ],
)
def test_values_of_the_wrong_type_are_named(wrong, says):
    with pytest.raises(InputError) as caught:
        make_recipe("train", MINIMAL | wrong)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_means_the_same_is_taken_as_the_settings_type():
    given = {
        "epochs": np.int64(3), "lr": 1, "gamma": np.float64(0.5), "flip": np.bool_(True), "precision": 32,
        "mean": np.array([0.5, 0.25]), "std": (1, 1), "milestones": (np.int32(1), 2), "runs": Path("a/b"),
    }  # fmt: skip
    flat = make_recipe("train", MINIMAL | given).flat()
    wanted = {
        "epochs": 3, "lr": 1.0, "gamma": 0.5, "flip": True, "precision": "32", "mean": [0.5, 0.25], "std": [1.0, 1.0],
        "milestones": [1, 2], "runs": str(Path("a/b")),
    }  # fmt: skip
    assert {key: (flat[key], type(flat[key])) for key in wanted} == {k: (v, type(v)) for k, v in wanted.items()}


def test_run_names_are_portable_and_tell_runs_apart():
    def name(**more):
        return make_recipe("distill", PAIR | more).run_name

    names = {
        name(),
        name(seed=1),
        name(method="kd"),
        name(method="kd(temperature=2)"),
        name(method="kd(temperature=3)"),
        name(student="timm:resnet18"),
        name(data="/some/where/photos/"),
    }
    assert len(names) == 7
    assert all(set(n) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") for n in names)
    assert name() == "resnet20-from-big-ldrld-cifar100-s0"
