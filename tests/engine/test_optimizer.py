from __future__ import annotations

import torch

from stillroom.config import make_recipe
from stillroom.engine.optimizer import build_optimizer
from stillroom.optim import DOT, DeepKD


def options(**settings):
    return make_recipe("train", {"model": "m", "data": "d", "lr": 1.0, **settings}).optim


def test_the_optimizer_is_that_of_the_settings():
    for kind, settings in ((torch.optim.SGD, {}), (torch.optim.AdamW, {"optimizer": "adamw"})):
        optimizer = build_optimizer([{"params": [torch.nn.Parameter(torch.ones(1))]}], options(**settings))
        assert isinstance(optimizer, kind)


def test_the_named_optimizers_get_the_settings():
    from timm.optim import Lamb

    weight = torch.nn.Parameter(torch.ones(2))
    pair = {"teacher": "t", "student": "s", "data": "d", "lr": 0.1}
    for name, kind, settings in (("dot", DOT, {"delta": 0.05}), ("deepkd", DeepKD, {}), ("lamb", Lamb, {})):
        optim = make_recipe("distill", {**pair, "optimizer": name, "weight_decay": 0.01, **settings}).optim
        made = build_optimizer([{"params": [weight], "lr_scale": 0.5}], optim)
        assert isinstance(made, kind)
        (group,) = made.param_groups
        assert (group["lr"], group["weight_decay"], group["lr_scale"]) == (0.1, 0.01, 0.5)
        assert group.get("delta") == settings.get("delta")


def test_the_published_code_of_deepkd_is_a_setting():
    pair = {"teacher": "t", "student": "s", "data": "d", "optimizer": "deepkd", "deepkd_as_coded": True}
    made = build_optimizer([{"params": [torch.nn.Parameter(torch.ones(2))]}], make_recipe("distill", pair).optim)
    (group,) = made.param_groups
    assert group["as_coded"]
    assert (group["task_delta"], group["target_delta"], group["non_target_delta"]) == (0.075, -0.075, 0.05)
