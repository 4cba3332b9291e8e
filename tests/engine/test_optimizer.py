from __future__ import annotations

import torch

from stillroom.config import make_recipe
from stillroom.engine.optimizer import build_optimizer


def options(**settings):
    return make_recipe("train", {"model": "m", "data": "d", "lr": 1.0, **settings}).optim


def test_the_optimizer_is_that_of_the_settings():
    for kind, settings in ((torch.optim.SGD, {}), (torch.optim.AdamW, {"optimizer": "adamw"})):
        optimizer = build_optimizer([{"params": [torch.nn.Parameter(torch.ones(1))]}], options(**settings))
        assert isinstance(optimizer, kind)
