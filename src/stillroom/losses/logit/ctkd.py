"""CTKD, curriculum temperature: KD whose temperature is learned to make the task harder from epoch to epoch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_finite, check_positive
from stillroom.losses.logit.kd import kd
from stillroom.losses.protocol import settings_repr


def curriculum(epoch: int, loops: int = 10) -> float:
    """Return the factor of the temperature's gradient, from 0 down to -1 along half a cosine.

    lambda(e) = (cos(pi * min(e, loops) / loops) - 1) / 2. Below 0 the optimizer, which descends, makes the
    distillation harder; the factor's growth in size is the curriculum.

    Args:
        epoch: counted from 1; 0 and below give 0.
        loops: the epoch in which the factor reaches -1, where it stays; at least 1.

    Raises:
        ValueError: loops is below 1.

    Example:
        >>> [round(curriculum(epoch), 3) for epoch in (0, 1, 5, 10, 240)]
        [0.0, -0.024, -0.5, -1.0, -1.0]
    """
    _check_loops(loops)
    return (math.cos(math.pi * min(max(epoch, 0), loops) / loops) - 1) / 2


def ctkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    parameter: Tensor,
    *,
    reversal: float = -1.0,
    start: float = 1.0,
    span: float = 20.0,
) -> Tensor:
    """Compute KD at a learned temperature.

    CTKD = KD at T = start + span * sigmoid(p), see :func:`kd`. The student's gradient is KD's; the parameter's
    gradient is ``reversal`` times the derivative of KD, so that a negative one trains T to make the loss larger.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        parameter: p, one floating element on the logits' device.
        reversal: the factor of p's gradient, published as :func:`curriculum` of the epoch.
        start: the lowest temperature, above 0.
        span: how far above it the temperature may rise, above 0.

    Returns:
        A scalar, float32 (float64 if a network's logits are), >= 0, and 0 where the two networks agree.

    Raises:
        ValueError: as :func:`kd`; reversal is not finite; start or span is not finite and above 0.

    Reference:
        Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023, arXiv 2211.16231 (the global
        version: one temperature for all samples).

    Example:
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 2.0, 5.0]])
        >>> p = torch.tensor(0.0, requires_grad=True)
        >>> loss = ctkd(student, teacher, p)  # at T = 1 + 20 / 2
        >>> loss.backward()
        >>> loss.detach(), p.grad
        (tensor(0.4767), tensor(0.0117))
    """
    check_finite(reversal=reversal)
    check_positive(start=start, span=span)
    # The bracket is 0, so the value is exactly p; its derivative is the factor. Plain arithmetic, so it compiles.
    reversed_ = parameter.detach() + reversal * (parameter - parameter.detach())
    return kd(student_logits, teacher_logits, temperature=start + span * reversed_.sigmoid())


class CTKD(nn.Module):
    """:func:`ctkd` with its learned parameter and its curriculum.

    The parameter is trained by the student's optimizer, and ``state_dict`` holds it. It is one float32 number.

    Args:
        start: the lowest temperature, above 0.
        span: how far above it the temperature may rise, above 0.
        initial: the parameter before training; 1 is a temperature of 15.6 with the other defaults.
        loops: the epoch in which the reversal reaches its full strength.

    Raises:
        ValueError: start or span is not finite and above 0, initial is not finite, or loops is below 1.

    Example:
        >>> loss = CTKD(initial=0.0)
        >>> loss
        CTKD(start=1.0, span=20.0, initial=0.0, loops=10)
        >>> loss.temperature
        tensor(11.)
    """

    per_sample = True
    teacher_offer = "top-k"

    def __init__(self, start: float = 1.0, span: float = 20.0, initial: float = 1.0, loops: int = 10) -> None:
        super().__init__()
        check_positive(start=start, span=span)
        check_finite(initial=initial)
        _check_loops(loops)
        self.start = start
        self.span = span
        self.initial = initial
        self.loops = loops
        self.parameter = nn.Parameter(torch.tensor(initial, dtype=torch.float32))

    @property
    def temperature(self) -> Tensor:
        """The temperature reached so far, a scalar without gradient."""
        return self.start + self.span * self.parameter.detach().sigmoid()

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, epoch: int = 1) -> Tensor:
        """Return :func:`ctkd` of two (B, C) logits; ``epoch``, from 1, sets how strongly the temperature resists."""
        return ctkd(
            student_logits,
            teacher_logits,
            self.parameter,
            reversal=curriculum(epoch, self.loops),
            start=self.start,
            span=self.span,
        )

    extra_repr = settings_repr


def _check_loops(loops: int) -> None:
    if loops < 1:
        raise ValueError(f"loops is {loops}: give the epoch of full strength, at least 1")
