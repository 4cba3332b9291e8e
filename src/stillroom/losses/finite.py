"""NaN and infinity: refused where looking at the values costs nothing, passed on elsewhere.

On a CPU, outside compiled code, every loss checks its input. Where its definition squares numbers without a scale it
checks the result too. On an accelerator the values are known only after a synchronisation, and compiled code has no
values to check. There a NaN in the input gives a NaN loss, which the training loop checks from time to time. So does
an infinity, unless the definition gives it a meaning: a teacher's logit of -inf is a probability of 0.

Finite input of magnitudes up to 1e30 gives a finite loss and, in the dtype the loss computes in, a finite gradient, or
the error. A gradient that autograd then narrows to the student's float16 may overflow to infinity, never to NaN; loss
scaling handles that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


class NotFinite(ValueError):  # noqa: N818  describes the values
    """An input holds NaN or infinite values, or values so large that the loss is beyond its dtype."""


def check_values(name: str, values: Tensor) -> None:
    """Refuse NaN and infinity in a tensor on the CPU, outside compiled code; the cost is one sum.

    Args:
        name: the argument's name.
        values: floating, any shape.

    Raises:
        NotFinite: with the number of such values.

    Example:
        >>> check_values("student_logits", torch.tensor([[0.0, torch.nan, torch.inf]]))
        Traceback (most recent call last):
        ...
        stillroom.losses.finite.NotFinite: student_logits holds 1 NaN and 1 infinite values of 3: ...
    """
    # A sum of finite values may overflow: it only shows whether the values must be counted.
    if not can_look_at(values) or _is_finite(values.detach().sum()):
        return
    nan, infinite = int(values.isnan().sum()), int(values.isinf().sum())
    if nan or infinite:
        raise NotFinite(f"{name} holds {nan} NaN and {infinite} infinite values of {values.numel()}: {_fix(name)}")


def check_result(loss: Tensor, **inputs: Tensor | Sequence[Tensor]) -> Tensor:
    """Refuse a loss (or its slope) that overflowed, on the CPU and outside compiled code.

    Args:
        loss: a scalar.
        **inputs: the loss's tensors or lists of tensors by argument name, already checked to be finite.

    Returns:
        The loss.

    Raises:
        NotFinite: naming the input with the largest value.

    Example:
        >>> student = torch.tensor([3e30])
        >>> check_result(student.square().mean(), student_map=student, teacher_map=torch.zeros(1))
        Traceback (most recent call last):
        ...
        stillroom.losses.finite.NotFinite: student_map has values up to 3e+30: too large for this loss in float32; ...
    """
    if not can_look_at(loss) or _is_finite(loss.detach()):
        return loss
    peaks = {name: _peak(values) for name, values in inputs.items()}
    name = max(peaks, key=lambda name: peaks[name])
    dtype = str(loss.dtype).removeprefix("torch.")
    raise NotFinite(f"{name} has values up to {peaks[name]:.3g}: too large for this loss in {dtype}; {_fix(name)}")


def can_look_at(values: Tensor) -> bool:
    """Whether values can be read without a synchronisation: on the CPU and not in compiled code."""
    return values.is_cpu and not torch.compiler.is_compiling()


def _is_finite(number: Tensor) -> bool:
    try:
        return math.isfinite(number.item())
    except RuntimeError:  # under vmap, and in fake tensors, there is no number
        return True


def _peak(values: Tensor | Sequence[Tensor]) -> float:
    levels = (values,) if isinstance(values, Tensor) else values
    return max(float(level.detach().abs().max()) for level in levels)


def _fix(name: str) -> str:
    if name.startswith("teacher"):
        return "check the teacher's weights and the normalisation of its input"
    return "the network has diverged, lower the learning rate or the loss's weight"
