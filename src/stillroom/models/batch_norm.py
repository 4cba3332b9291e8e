"""Momentum of batch norm: the weight of a new batch in the running statistics."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stillroom.errors import InputError

USUAL_BN_MOMENTUM = 0.1  # PyTorch's default, and nearly every architecture's


def set_bn_momentum(model: nn.Module, momentum: float) -> None:
    """Set the momentum of all batch norms of a model, in place.

    Args:
        model: any module.
        momentum: weight of a new batch in the running mean and variance, above 0 and at most 1.

    Raises:
        InputError: the model has no batch norms with running statistics.
    """
    norms = _norms(model)
    if not norms:
        raise InputError(
            f"bn_momentum={momentum}: the trained model has no batch norms with running statistics; leave it out"
        )
    for norm in norms:
        norm.momentum = momentum


def bn_momentum_of(model: nn.Module) -> float | None:
    """Return the common momentum of a model's batch norms; None if they differ or there is none."""
    found = {norm.momentum for norm in _norms(model)}
    return found.pop() if len(found) == 1 else None


def bn_window(model: nn.Module) -> float:
    """Return the largest 1 / momentum of a model's batch norms, the steps they average over; 0 without batch norms.

    A batch norm without momentum averages over all steps equally and is ignored.
    """
    return max((1.0 / norm.momentum for norm in _norms(model) if norm.momentum), default=0.0)


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None]
