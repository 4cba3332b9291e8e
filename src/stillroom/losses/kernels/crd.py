"""CRD in closed form: loss and gradient of one direction from one pass."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

# The public code's guard in the denominator; the mathematics does not need it, the published numbers contain it.
EPSILON = 1e-7
# Up to this many memory rows per pick, the products with all rows cost less than fetching the picked ones.
ALL_ROWS = 64


def contrast(unit: Tensor, memory: Tensor, picks: Tensor, log_z: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Contrast the embeddings of one network with the stored ones of the other.

    The formula is that of :func:`stillroom.losses.feature.crd.crd`. Double backward is not available.

    Args:
        unit: (B, D) embeddings of length 1.
        memory: (N, D) stored embeddings; no gradient reaches it, and it may change before backward.
        picks: (B, K + 1) int64 rows of the memory, the sample itself in column 0.
        log_z: scalar, the logarithm of the normaliser; NaN: estimated from these picks.
        temperature: above 0.

    Returns:
        The loss, a scalar, and the log Z used.

    Example:
        >>> unit = torch.eye(2)
        >>> contrast(unit, unit, torch.tensor([[0, 1], [1, 0]]), torch.tensor(torch.nan), 1.0)
        (tensor(0.9515), tensor(1.3133))
    """
    loss, used = _Contrast.apply(unit, memory, picks, log_z, temperature)
    return loss, used


class _Contrast(torch.autograd.Function):
    """The loss and log Z; the forward pass computes the gradient as well."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, unit: Tensor, memory: Tensor, picks: Tensor, log_z: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(unit.device.type, enabled=False):
            logits = _products(unit, memory, picks) / temperature
            # The mean of exp(logits), times N, as a logarithm.
            fresh = logits.flatten().logsumexp(0) + math.log(len(memory) / logits.numel())
            log_z = torch.where(log_z.isnan(), fresh, log_z)
            noise = (picks.shape[1] - 1) / len(memory)
            gap = logits - log_z - math.log(noise + EPSILON)
            surplus = (picks.shape[1] - 1) * math.log1p(EPSILON / noise)
            same, other = -functional.logsigmoid(gap[:, 0]), -functional.logsigmoid(-gap[:, 1:])
            loss = (same.sum() + other.sum()) / len(unit) + surplus
            # Of each pick's binary cross-entropy: probability minus truth.
            slope = torch.cat((gap[:, :1].sigmoid() - 1, gap[:, 1:].sigmoid()), 1)
            gradient = _weighted_sum(slope, memory, picks) / (temperature * len(unit))
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(log_z)
        return loss, log_z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None, None, None, None


def _products(unit: Tensor, memory: Tensor, picks: Tensor) -> Tensor:
    """Return the (B, K + 1) dot products of each embedding with its picked rows of the memory."""
    if len(memory) <= ALL_ROWS * picks.shape[1]:
        return (unit @ memory.T).gather(1, picks)
    # One sample at a time: never more than K + 1 rows fetched at once.
    return torch.stack([memory.index_select(0, rows) @ one for rows, one in zip(picks, unit, strict=True)])


def _weighted_sum(weights: Tensor, memory: Tensor, picks: Tensor) -> Tensor:
    """Return the (B, D) sums of picked rows of the memory, weighted; the transpose of :func:`_products`."""
    if len(memory) <= ALL_ROWS * picks.shape[1]:
        return weights.new_zeros(len(picks), len(memory)).scatter_add_(1, picks, weights) @ memory
    return functional.embedding_bag(picks, memory, per_sample_weights=weights, mode="sum")
