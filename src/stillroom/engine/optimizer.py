"""Optimizer of a run, fused where PyTorch offers it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from stillroom.config import OptimOptions
from stillroom.optim import DOT, DeepKD
from stillroom.optimizer_names import timm_optim


def build_optimizer(groups: Sequence[dict[str, Any]], options: OptimOptions, *, compiled: bool = False) -> Optimizer:
    """Make the optimizer of a resolved recipe, fused where PyTorch offers it.

    Args:
        groups: from :func:`stillroom.engine.fine_tuning.parameter_groups`.
        options: of the recipe.
        compiled: whether the run uses torch.compile.
    """
    if not compiled:
        _skip_compiler_wrappers()
    common: dict[str, Any] = {"lr": options.lr, "weight_decay": options.weight_decay}
    if options.optimizer == "sgd":
        return _sgd(groups, options, torch.optim.SGD if compiled else _light(torch.optim.SGD), common)
    if options.optimizer == "adamw":
        return (torch.optim.AdamW if compiled else _light(torch.optim.AdamW))(groups, fused=True, **common)
    if options.optimizer == "dot":
        (delta,) = _deltas(options)
        return DOT(groups, momentum=options.momentum, delta=delta, **common)
    if options.optimizer == "deepkd":
        deltas = dict(zip(DeepKD.streams, _deltas(options), strict=True))
        named = {f"{stream}_delta": delta for stream, delta in deltas.items()}
        return DeepKD(groups, momentum=options.momentum, as_coded=options.deepkd_as_coded, **named, **common)
    create = timm_optim().create_optimizer_v2
    made: Optimizer = create(list(groups), opt=options.optimizer, momentum=options.momentum, **common)
    return made


def _sgd(groups: Sequence[dict[str, Any]], options: OptimOptions, kind: type[Any], common: dict[str, Any]) -> Optimizer:
    sgd: Optimizer = kind(groups, momentum=options.momentum, nesterov=options.nesterov, fused=True, **common)
    if options.momentum > 0:
        # The first step starts from zeros in any case. Without these buffers the fused step fails when a parameter gets
        # its first gradient later than others, for example after an initial stage or after frozen epochs.
        for parameter in (p for group in groups for p in group["params"]):
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def _deltas(options: OptimOptions) -> list[float]:
    assert isinstance(options.delta, list)
    return options.delta


def _skip_compiler_wrappers() -> None:
    """Call the methods of optimizers without the wrappers that torch adds for its compiler.

    The wrappers import torch._dynamo when they are first called, which takes as long as importing torch. A run
    that does not compile saves this time.
    """
    if "torch._dynamo" not in sys.modules:
        for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
            plain = inspect.unwrap(getattr(Optimizer, name))
            vars(plain).setdefault("__dynamo_disable", plain)  # where the wrapper caches the wrapped method


def _light(kind: type[Any]) -> type[Any]:
    """The same optimizer with a step that does not import torch._dynamo."""
    if "torch._dynamo" in sys.modules:
        return kind
    take_step = inspect.unwrap(kind.step)
    return type(kind.__name__, (kind,), {"step": torch.no_grad()(lambda self: take_step(self))})
