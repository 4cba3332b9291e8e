"""How fast a model's batch norms forget: the share of a new batch in their running statistics."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stillroom.errors import InputError

USUAL_BN_MOMENTUM = 0.1  # PyTorch's default, and nearly every architecture's


def set_bn_momentum(model: nn.Module, momentum: float) -> None:
    """Give all batch norms of a model one momentum, in place.

    Args:
        model: any module.
        momentum: share of a new batch in the running mean and variance, above 0 and at most 1.

    Raises:
        InputError: the model has no batch norms that keep running statistics.
    """
    norms = _norms(model)
    if not norms:
        raise InputError(
            f"bn_momentum={momentum}: the trained model has no batch norms with running statistics; leave it out"
        )
    for norm in norms:
        norm.momentum = momentum


def bn_momentum_of(model: nn.Module) -> float | None:
    """The momentum that all batch norms of a model have; None where they differ, have none, or there are none."""
    found = {norm.momentum for norm in _norms(model)}
    return found.pop() if len(found) == 1 else None


def bn_window(model: nn.Module) -> float:
    """The steps over which the slowest of a model's batch norms averages, 1 / momentum; 0 without batch norms.

    One without a momentum averages over all steps alike and does not count.
    """
    return max((1.0 / norm.momentum for norm in _norms(model) if norm.momentum), default=0.0)


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None]
