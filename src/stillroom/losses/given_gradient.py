"""Given gradient: attaches a gradient that was computed with a loss, so that autograd stores nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def wants_gradient(student: Tensor) -> bool:
    """Whether a gradient with respect to this tensor will be of use.

    Example:
        >>> wants_gradient(torch.zeros(2)), wants_gradient(torch.zeros(2, requires_grad=True))
        (False, True)
    """
    return torch.is_grad_enabled() and student.requires_grad


def with_gradient(student: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
    """Return a loss whose gradient is the given one. Double backward is not available.

    Args:
        student: (B, C), what the loss was computed from.
        loss: the value, a scalar or one number per sample (B,); it must not be in a graph.
        gradient: (B, C), the derivative of the loss (of the sum of the losses for (B,)) with respect to ``student``.
            Backward multiplies it by the upstream gradient.

    Returns:
        The loss in the graph of ``student``.

    Example:
        >>> student = torch.tensor([[1.0, 3.0]], requires_grad=True)
        >>> loss = with_gradient(student, student.detach().square().sum(), 2 * student.detach())
        >>> torch.autograd.grad(10 * loss, student)
        (tensor([[20., 60.]]),)
    """
    attached: Tensor = _GivenGradient.apply(student, loss, gradient)
    return attached


class _GivenGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, student: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG004  its place
        ctx.save_for_backward(gradient)
        return loss.clone()  # an output that is an input would be taken for a view

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        (upstream,) = grad_outputs
        return gradient * (upstream.unsqueeze(1) if upstream.dim() == 1 else upstream), None, None
