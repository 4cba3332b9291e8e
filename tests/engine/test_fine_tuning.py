from __future__ import annotations

import signal

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from stillroom.api import run_recipe
from stillroom.config import make_recipe
from stillroom.engine.fine_tuning import find_head, parameter_groups
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError, Stopped
from stillroom.methods import Method, parse_method
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.reporters import Silent
from tests.conftest import tiny_model
from tests.engine.test_loop import SETTINGS, At, run, same_weights

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
HEAD = ("6.weight", "6.bias")


def options(**settings):
    return make_recipe("train", {"model": "m", "data": "d", "lr": 1.0, **settings}).optim


def factors(student, head=(), connectors=(), **settings):
    """The factor of every parameter by its name."""
    groups = parameter_groups(student, connectors, head, options(**settings))
    of = {id(p): group.get("lr_scale", 1.0) for group in groups for p in group["params"]}
    return {name: of[id(p)] for name, p in student.named_parameters()}


def test_by_default_all_trained_parameters_are_one_plain_group():
    model, connector = tiny_model(), nn.Parameter(torch.ones(1))
    model[0].bias.requires_grad_(False)
    (group,) = parameter_groups(model, [connector], (), options())
    assert group.keys() == {"params"}
    trained = [*(p for name, p in model.named_parameters() if name != "0.bias"), connector]
    assert [id(p) for p in group["params"]] == [id(p) for p in trained]


def test_two_groups_are_the_head_and_the_rest():
    found = factors(tiny_model(), ("6",), backbone_lr_factor=0.1)
    assert found == {name: 1.0 if name in HEAD else 0.1 for name in found}
    connector = nn.Parameter(torch.ones(1))
    groups = parameter_groups(tiny_model(), [connector], ("6",), options(backbone_lr_factor=0.1))
    assert any(p is connector for group in groups if group["lr_scale"] == 1 for p in group["params"])


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet"])
def test_layer_decay_gives_each_layer_what_timm_gives_it(name):
    model = timm.create_model(name, num_classes=4)
    theirs = param_groups_layer_decay(model, layer_decay=0.5)
    expected = {id(p): group["lr_scale"] for group in theirs for p in group["params"]}
    assert factors(model, layer_decay=0.5) == {n: expected[id(p)] for n, p in model.named_parameters()}
    assert len(set(expected.values())) > 2


class Watch(Silent):
    """Keeps a copy of the student after each epoch."""

    def __init__(self, student):
        self.student, self.states = student, []

    def epoch(self, row):
        self.states.append({name: value.clone() for name, value in self.student.state_dict().items()})


def watched(tmp_path, data, name="run", model=None, **settings):
    """The student's state before the run and after each epoch, and the run's record."""
    torch.manual_seed(11)
    student = tiny_model() if model is None else model
    watch = Watch(student)
    watch.epoch({})
    recipe = make_recipe("train", {**SETTINGS, "model": "m", "runs": str(tmp_path), "name": name, **settings})
    result = run_recipe(recipe, watch, Inputs(student=student, data=data))
    assert all(p.requires_grad for p in student.parameters())
    return watch.states, result.record


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_frozen_backbone_keeps_weights_and_statistics_until_it_is_released(tmp_path, tiny_data, optimizer):
    states, _ = watched(tmp_path, tiny_data, optimizer=optimizer, lr=0.01, epochs=3, freeze_epochs=2)
    assert changed(states[0], states[2]) == {*HEAD}
    assert changed(states[2], states[3]) == {*states[0]}


def test_frozen_norms_keep_their_statistics_in_every_epoch_and_learn_their_weights(tmp_path, tiny_data):
    states, _ = watched(tmp_path, tiny_data, freeze_norms=True)
    moved = changed(states[0], states[-1])
    assert {"0.weight", "1.weight", "6.weight"} <= moved
    assert not {name for name in moved if "running" in name or "tracked" in name}


def test_as_many_frozen_epochs_as_epochs_are_a_linear_probe_that_learns(tmp_path, tiny_data):
    states, record = watched(tmp_path, tiny_data, epochs=4, freeze_epochs=4, lr=1.0)
    assert changed(states[0], states[-1]) == {*HEAD}
    assert record.epochs()[-1]["loss"] < record.epochs()[0]["loss"]


def test_the_recorded_learning_rate_is_the_heads_and_the_backbone_moves_less(tmp_path, tiny_data):
    settings = {"epochs": 1, "lr": 0.1, "schedule": "constant", "momentum": 0.0, "weight_decay": 0.0}
    states, record = watched(tmp_path, tiny_data, backbone_lr_factor=1e-6, **settings)
    assert record.epochs()[0]["lr"] == 0.1
    moved = {name: float((states[1][name] - states[0][name]).abs().max()) for name in ("0.weight", "6.weight")}
    assert moved["6.weight"] > 1000 * moved["0.weight"] > 0


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("step", [3, 5, 8])  # of 5 in an epoch: in the frozen epoch, at its end, and after it
def test_a_stopped_run_ends_with_the_same_bits(tmp_path, tiny_data, optimizer, step):
    settings = {"optimizer": optimizer, "lr": 0.01, "epochs": 2, "freeze_epochs": 1, "backbone_lr_factor": 0.3}
    whole, _ = run(tmp_path, tiny_data, name="whole", **settings)
    stop = At(step, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Stopped):
        run(tmp_path, tiny_data, reporter=stop, **settings)
    resumed, record = run(tmp_path, tiny_data, **settings)
    assert same_weights(whole.state_dict(), resumed.state_dict())
    there = RunFolder(tmp_path / "whole").epochs()
    assert [row["loss"] for row in record.epochs()] == [row["loss"] for row in there]


def test_a_student_that_is_distilled_can_be_probed_and_its_connectors_are_trained(tmp_path, tiny_data):
    torch.manual_seed(5)
    teacher = tiny_model(width=16)
    student, record = run(
        tmp_path, tiny_data, teacher, "ce + fitnet(layer=1)", epochs=1, freeze_epochs=1, backbone_lr_factor=0.5
    )
    torch.manual_seed(11)
    begun = tiny_model().state_dict()
    assert changed(begun, student.state_dict()) == {*HEAD}
    assert record.epochs()[0]["terms"].keys() == {"ce", "fitnet"}


def headless():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("settings", "student", "method", "message"),
    [
        ({"freeze_epochs": 1}, headless, Method(), "freeze_epochs=1: Sequential does not end in one linear layer"),
        ({"backbone_lr_factor": 0.1}, headless, Method(), "backbone_lr_factor=0.1: Sequential does not end in one"),
        ({"layer_decay": 0.7}, tiny_model, Method(), "layer_decay=0.7: Sequential does not name its layers in order"),
        (
            {"freeze_epochs": 2},
            tiny_model,
            "0*ce + 1*fitnet(layer=1)",
            "in these epochs no loss of method=.* trains the head",
        ),
        ({"freeze_epochs": 2}, tiny_model, "ce + ab(initial_epochs=1)", "no loss of method=.* trains the head"),
        ({"freeze_epochs": 2}, tiny_model, "simkd", "freeze_epochs=2: .* has the teacher's classifier"),
        ({"backbone_lr_factor": 0.5}, tiny_model, "simkd", "backbone_lr_factor=0.5: .* has the teacher's classifier"),
    ],
)
def test_settings_that_do_not_fit_the_model_or_the_method_are_refused(settings, student, method, message):
    if isinstance(method, str):
        method = parse_method(method)
    with pytest.raises(InputError, match=message):
        find_head(options(epochs=3, **settings), method, student(), IMAGES)


def test_a_refusal_comes_before_the_run_folder_is_made(tmp_path, tiny_data):
    with pytest.raises(InputError, match=r"layer_decay=0\.5: Sequential does not name its layers"):
        run(tmp_path, tiny_data, layer_decay=0.5)
    assert not (tmp_path / "run").exists()


def decays(student, connectors=(), **settings):
    """Whether each parameter has weight decay, by its name."""
    groups = parameter_groups(student, connectors, (), options(**settings))
    of = {id(p): group.get("weight_decay", 0.5) for group in groups for p in group["params"]}
    return {name: of[id(p)] > 0 for name, p in student.named_parameters()}


@pytest.mark.parametrize("settings", [{}, {"layer_decay": 0.5}])
def test_norms_biases_and_what_the_model_names_have_no_weight_decay(settings):
    model = timm.create_model("test_vit", num_classes=4)
    found = decays(model, no_decay_norms=True, **settings)
    exempt = {name for name, decayed in found.items() if not decayed}
    assert exempt == {n for n, p in model.named_parameters() if p.dim() <= 1 or n in model.no_weight_decay()}
    assert {"pos_embed", "cls_token", "head.bias"} <= exempt
    assert all(decays(model, **settings).values())


def test_exempt_parameters_do_not_shrink(tmp_path, tiny_data):
    settings = {"lr": 0.1, "schedule": "constant", "weight_decay": 0.5, "epochs": 1, "momentum": 0.0}
    decayed, _ = watched(tmp_path, tiny_data, name="decayed", **settings)
    kept, _ = watched(tmp_path, tiny_data, name="kept", no_decay_norms=True, **settings)
    assert kept[1]["1.weight"].mean() > 0.9 > decayed[1]["1.weight"].mean()
    assert kept[1]["0.weight"].norm() < 0.9 * kept[0]["0.weight"].norm()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(
    ("settings", "frozen"),
    [
        ({"freeze": ["0", "1"]}, "01"),
        ({"freeze": ["[01]"], "freeze_epochs": 1, "backbone_lr_factor": 0.5}, "01"),
        ({"freeze": ["6"]}, "6"),
    ],
)
def test_frozen_parts_keep_weights_and_statistics(tmp_path, tiny_data, optimizer, settings, frozen):
    states, _ = watched(tmp_path, tiny_data, optimizer=optimizer, lr=0.01, epochs=2, **settings)
    assert changed(states[0], states[-1]) == {name for name in states[0] if name[0] not in frozen}


def test_a_stopped_run_with_frozen_parts_ends_with_the_same_bits(tmp_path, tiny_data):
    settings = {"epochs": 2, "freeze": ["0"], "no_decay_norms": True}
    whole, _ = run(tmp_path, tiny_data, name="whole", **settings)
    with pytest.raises(Stopped):
        run(tmp_path, tiny_data, reporter=At(3, lambda: signal.raise_signal(signal.SIGINT)), **settings)
    resumed, _ = run(tmp_path, tiny_data, **settings)
    assert same_weights(whole.state_dict(), resumed.state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": ["blocks.0", "block.1"]}, r"freeze=block\.1: VisionTransformer has no submodule .*mean blocks\.1"),
        ({"freeze": ["stem*"]}, r"freeze=stem\*: .*; it has patch_embed"),
        ({"freeze": ["*"]}, r"every parameter of the trained model is frozen; freeze less"),
        ({"freeze": ["head"], "freeze_epochs": 1}, "the head is frozen, which freeze_epochs=1 alone trains"),
    ],
)
def test_parts_that_cannot_be_frozen_are_refused(settings, message):
    model = timm.create_model("test_vit", num_classes=4)
    if settings == {"freeze": ["*"]}:
        model = tiny_model()
    with pytest.raises(InputError, match=message):
        find_head(options(epochs=3, **settings), Method(), model, torch.rand(2, 3, 160, 160))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze_epochs": 4, "epochs": 3}, "freeze_epochs=4: give at most 3 epochs"),
        ({"layer_decay": 0.5, "backbone_lr_factor": 0.1}, "layer_decay=0.5: give 1, or leave backbone_lr_factor at 1"),
        ({"backbone_lr_factor": 0}, "backbone_lr_factor=0.0: give above 0 and at most 1"),
        ({"freeze_epochs": -1}, "freeze_epochs=-1: give at least 0"),
    ],
)
def test_impossible_values_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        options(**settings)
