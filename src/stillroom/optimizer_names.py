"""The names of optimizers: Stillroom's own and those of timm.optim, with their default settings."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from stillroom.errors import InputError, did_you_mean

# Momentum SGD, which the published recipes train with, also with a momentum for each gradient stream.
MOMENTUM_SGD = ("sgd", "dot", "deepkd")
DELTAS: Mapping[str, list[float]] = {"dot": [0.075], "deepkd": [0.075, -0.075, 0.05]}
OWN: Mapping[str, str] = {
    "sgd": "stochastic gradient descent with momentum, as in the published recipes",
    "adamw": "Adam with decoupled weight decay",
    "dot": "SGD with a momentum for the task and a larger one for the teacher (ICCV 2023)",
    "deepkd": "SGD with three momenta: task, target class, other classes (NeurIPS 2025)",
}


def timm_optim() -> Any:
    """The module timm.optim. It is imported where it is used, because that imports all of timm and PyTorch."""
    return importlib.import_module("timm.optim")


def timm_optimizers() -> dict[str, str]:
    """The optimizers of timm.optim that a run can use, each with its description.

    Left out are the names of :data:`OWN`, those whose package is not a dependency of timm, those that require the graph
    of the gradients, and those that cannot be resumed.
    """
    timm = timm_optim()
    known = {name: timm.get_optimizer_info(name) for name in timm.list_optimizers() if name not in OWN}
    return {name: info.description for name, info in known.items() if not _why_not(info)}


def require_optimizer(name: str) -> None:
    """Refuse an optimizer that does not exist or that a run cannot use.

    Raises:
        InputError: naming the closest names, or why it cannot be used.
    """
    if name in OWN:
        return
    timm = timm_optim()
    if name in timm.list_optimizers():
        if why := _why_not(timm.get_optimizer_info(name)):
            raise InputError(f"optimizer={name}: {why}; give another one (stillroom list optimizers)")
        return
    close = difflib.get_close_matches(name.lower(), [*OWN, *timm_optimizers()], n=3)
    raise InputError(
        f"optimizer={name}: give {', '.join(OWN)}, or a name of timm.optim (stillroom list optimizers)"
        f"{did_you_mean(close)}"
    )


def _why_not(info: Any) -> str:
    """Why a run cannot use an optimizer of timm; empty if it can."""
    if info.second_order:
        return "it requires the graph of the gradients (create_graph), which a run does not keep"
    if info.name.startswith("kron"):
        return "it draws random numbers that its state does not hold, so that a stopped run would end otherwise"
    if isinstance(info.opt_class, str):  # imported by name from a package of its own
        return f"it requires the package {info.opt_class.partition('.')[0]}, with which it is not tested"
    return ""


def timm_default(name: str, setting: str) -> float | None:
    """The default of an optimizer of timm for ``lr`` or ``weight_decay``; None where it has no such number."""
    parameter = inspect.signature(timm_optim().get_optimizer_info(name).opt_class).parameters.get(setting)
    value = None if parameter is None else parameter.default
    return float(value) if isinstance(value, int | float) else None
