"""Numerically safe operations: the dtype of a loss, exact masks, divergences and unit vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def widen(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Bring both logits to one dtype of at least float32 and cut the teacher from the graph.

    The student's conversion stays in the graph: autograd returns its gradient in the student's own dtype, and
    scales by the upstream gradient before it narrows, so loss scaling still rescues small half gradients.

    Args:
        student_logits: (B, C), any floating dtype.
        teacher_logits: (B, C), any floating dtype.

    Returns:
        Both as float32, or float64 if either one was.

    Example:
        >>> student, teacher = widen(torch.zeros(1, 2).half(), torch.zeros(1, 2).bfloat16())
        >>> student.dtype, teacher.dtype
        (torch.float32, torch.float32)
    """
    dtype = torch.float64 if torch.float64 in (student_logits.dtype, teacher_logits.dtype) else torch.float32
    return student_logits.to(dtype), teacher_logits.detach().to(dtype)


def as_rows(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Bring both logits to rows of one dtype, as :func:`widen`: every position before the last dimension is a row.

    Args:
        student_logits: (..., C), at least two-dimensional, any floating dtype.
        teacher_logits: (..., C), any floating dtype.

    Returns:
        Both as (N, C); two-dimensional logits keep their shape.

    Example:
        >>> as_rows(torch.zeros(2, 3, 5), torch.zeros(2, 3, 5))[0].shape
        torch.Size([6, 5])
    """
    return widen(student_logits.flatten(0, -2), teacher_logits.flatten(0, -2))


def log_softmax_outside(logits: Tensor, excluded: Tensor) -> Tensor:
    """Log-softmax over the classes that are not excluded, with 0 written at those that are.

    The mask is -inf, exact at any magnitude. The zeros afterwards keep an excluded class out of every sum of
    differences, value and gradient, where -inf minus -inf would be NaN.

    Args:
        logits: (B, C).
        excluded: (B, k) class indices, 1 <= k < C, different within a row.

    Returns:
        (B, C) log-probabilities.

    Example:
        >>> log_softmax_outside(torch.tensor([[1e30, 1.0, 1.0]]), torch.tensor([[0]])).exp()
        tensor([[1.0000, 0.5000, 0.5000]])
    """
    return logits.scatter(1, excluded, -torch.inf).log_softmax(1).scatter(1, excluded, 0.0)


def class_gap(logits: Tensor, label: Tensor) -> Tensor:
    """Return the logit of one class against "any other class", the others taken together by log-sum-exp.

    The probability of the class is the sigmoid of this number, so that its logarithm and that of its complement
    keep their precision however close to 0 or 1 it is.

    Args:
        logits: (B, C), C >= 2.
        label: (B, 1) class indices.

    Returns:
        (B,).

    Example:
        >>> class_gap(torch.tensor([[3.0, 1.0, 1.0]]), torch.tensor([[0]]))
        tensor([1.3069])
    """
    others = logits.scatter(1, label, -torch.inf).logsumexp(1)
    return logits.gather(1, label).squeeze(1) - others


def kl_rows(log_q: Tensor, log_p: Tensor) -> Tensor:
    """Kullback-Leibler divergence KL(p || q) over the last dimension, from finite log-probabilities.

    Args:
        log_q: the student's log-probabilities (..., C).
        log_p: the teacher's log-probabilities (..., C).

    Returns:
        (...,), each >= 0 up to rounding.

    Example:
        >>> uniform = torch.full((1, 4), 0.25).log()
        >>> kl_rows(uniform, uniform)
        tensor([0.])
    """
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def kl_binary(student_gap: Tensor, teacher_gap: Tensor) -> Tensor:
    """KL between two-way softmaxes, given each one's difference of logits.

    A two-way softmax is a sigmoid of the difference, and log-sigmoid never takes the log of a rounded 0.

    Args:
        student_gap: logit of the first outcome minus logit of the second, any shape.
        teacher_gap: the same for the teacher.

    Returns:
        The divergence, elementwise.

    Example:
        >>> kl_binary(torch.tensor([0.0, 1e30]), torch.tensor([0.0, -1e30]))
        tensor([0.0000e+00, 1.0000e+30])
    """
    return _outcome(student_gap, teacher_gap) + _outcome(-student_gap, -teacher_gap)


def _outcome(student_gap: Tensor, teacher_gap: Tensor) -> Tensor:
    """Return what the first outcome adds to the divergence; alone it may be negative."""
    log_p, log_q = functional.logsigmoid(teacher_gap), functional.logsigmoid(student_gap)
    return log_p.exp() * (log_p - log_q)


def unit_rows(x: Tensor) -> Tensor:
    """Scale the vectors along the last dimension to length 1, whatever their magnitude; zero stays zero.

    The direction does not change with the length, so dividing by the largest entry first (a constant to the
    gradient) leaves value and gradient as they are, and no square over- or underflows.

    Args:
        x: (..., D).

    Returns:
        The same shape. A zero vector passes its gradient on by a factor of 2, where the true one is undefined.

    Example:
        >>> unit_rows(torch.tensor([[3e30, 4e30], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    x = x / or_one(x.detach().abs().amax(-1, keepdim=True))
    # The largest entry is 1 now, so only a zero vector has a norm below 1.
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.clamp_min(0.5)


def or_one(scale: Tensor) -> Tensor:
    """Replace a scale of (nearly) zero, by which nothing can be divided, by 1."""
    return torch.where(scale > negligible(scale.dtype), scale, 1.0)


def negligible(dtype: torch.dtype) -> float:
    """The scale up to which values are treated as zero: a gradient divided by it would overflow.

    It is 1e6 times the smallest normal number, which leaves room for what the gradient is multiplied by.

    Example:
        >>> f"{negligible(torch.float32):.0e}"
        '1e-32'
    """
    return 1e6 * torch.finfo(dtype).tiny
