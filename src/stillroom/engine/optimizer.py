"""Optimizer of a run, fused where PyTorch offers it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from stillroom.config import OptimOptions


def build_optimizer(groups: Sequence[dict[str, Any]], options: OptimOptions, *, compiled: bool = False) -> Optimizer:
    """Make the optimizer of a resolved recipe, fused where PyTorch offers it.

    Args:
        groups: from :func:`stillroom.engine.fine_tuning.parameter_groups`.
        options: of the recipe.
        compiled: whether the run uses torch.compile.
    """
    assert options.lr is not None
    assert options.weight_decay is not None
    adamw, sgd_class = torch.optim.AdamW, torch.optim.SGD
    if not compiled:
        adamw, sgd_class = _light(adamw), _light(sgd_class)
    if options.optimizer == "adamw":
        return adamw(groups, lr=options.lr, weight_decay=options.weight_decay, fused=True)
    sgd = sgd_class(
        groups,
        lr=options.lr,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        nesterov=options.nesterov,
        fused=True,
    )
    if options.momentum > 0:
        # The first step starts from zeros in any case. Without these buffers the fused step fails when a parameter gets
        # its first gradient later than others, for example after an initial stage or after frozen epochs.
        for parameter in (p for group in groups for p in group["params"]):
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def _light(kind: type[Any]) -> type[Any]:
    """The same optimizer without the wrappers that torch adds for its compiler.

    The wrappers import torch._dynamo when they are first called, which takes as long as importing torch. A run
    that does not compile saves this time.
    """
    if "torch._dynamo" in sys.modules:
        return kind
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        plain = inspect.unwrap(getattr(Optimizer, name))
        vars(plain).setdefault("__dynamo_disable", plain)  # where the wrapper caches the wrapped method
    take_step = inspect.unwrap(kind.step)
    return type(kind.__name__, (kind,), {"step": torch.no_grad()(lambda self: take_step(self))})
