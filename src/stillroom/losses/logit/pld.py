"""PLD, Plackett-Luce distillation: the student ranks the label first and the other classes as the teacher does."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_logits, check_reduction, check_target, check_temperature
from stillroom.losses.numerics import as_rows
from stillroom.losses.protocol import settings_repr


def pld(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    temperature: float = 1.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute the loss of Plackett-Luce distillation.

    The ranking pi has the label first, then the other classes by falling teacher logit (equal ones by their number).
    The student chooses class after class from those that are left, and each choice is weighted with the teacher's
    probability of its class, ``a_k = softmax(t / T)[pi_k]``:

    PLD = 1 / B * sum_b sum_k a_k (logsumexp_{l >= k} s[pi_l] - s[pi_k]), >= 0.

    The first choice is the cross-entropy with the label times a_1, so that PLD replaces the cross-entropy: add no
    other. It is not 0 where the networks agree.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        target: (B,) or (...,) int64 labels in [0, C).
        temperature: T of the weights, above 0. The student has none.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        A scalar, or (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: logits or target do not fit each other (shape, dtype, device, range), B = 0 or C < 2; the
            temperature is not finite and above 0; or the reduction is unknown.

    Reference:
        Bassam, Zhu and Bian, "PLD: A Choice-Theoretic List-Wise Knowledge Distillation", NeurIPS 2025,
        arXiv 2506.12542. Written from the paper's formula; no public code confirms it.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 5.0]])
        >>> pld(student, teacher, torch.tensor([2]))
        tensor(0.3901)
        >>> pld(student, teacher, torch.tensor([0]))
        tensor(0.3098)
    """
    check_logits(student_logits, teacher_logits, leading=True)
    check_target(target, student_logits)
    check_temperature(temperature)
    check_reduction(reduction)
    student, teacher = as_rows(student_logits, teacher_logits)
    label_first = teacher.scatter(1, target.reshape(-1, 1), torch.inf)
    ranking = label_first.sort(dim=1, descending=True, stable=True).indices
    weights = (teacher / temperature).softmax(1).gather(1, ranking)
    # Logits relative to the largest one: the logarithms of sums then keep their precision.
    ranked = (student - student.detach().amax(1, keepdim=True)).gather(1, ranking)
    rows = _surprises(ranked, weights)
    return rows.mean() if reduction == "mean" else rows.reshape(target.shape)


class PLD(nn.Module):
    """:func:`pld` with its temperature; it replaces the cross-entropy.

    Args:
        temperature: T of the weights, above 0.

    Raises:
        ValueError: the temperature is not finite and above 0.

    Example:
        >>> PLD(temperature=2.0)
        PLD(temperature=2.0)
    """

    per_sample = True
    teacher_offer = "probabilities"

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return :func:`pld` of two (B, C) logits and (B,) labels."""
        return pld(student_logits, teacher_logits, target, temperature=self.temperature)

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        return pld(student_logits, teacher_logits, target, temperature=self.temperature, reduction="none")

    extra_repr = settings_repr


def _surprises(ranked: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of the surprises at each choice, (B,), from logits in the order of the ranking."""
    fixed = ranked.detach()
    left = fixed.flip(1).logcumsumexp(1).flip(1)
    # The gradient in closed form: autograd's for logcumsumexp costs several times as much as the value. The exponent is
    # at most 0 but for rounding.
    chances = (fixed + (weights.log() - left).logcumsumexp(1)).clamp_max(0.0).exp()
    return (weights * (left - fixed)).sum(1) + ((chances - weights) * (ranked - fixed)).sum(1)
