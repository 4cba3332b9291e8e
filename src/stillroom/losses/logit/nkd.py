"""NKD, normalised knowledge distillation: target and normalised non-target probabilities are matched apart."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor, nn

from stillroom.losses.checks import check_finite, check_logits, check_reduction, check_target, check_temperature
from stillroom.losses.numerics import as_rows, log_softmax_outside
from stillroom.losses.protocol import settings_repr


class NKDTerms(NamedTuple):
    """The two parts of normalised knowledge distillation, unweighted: scalars, or (B,) each."""

    target: Tensor
    non_target: Tensor


def nkd_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    temperature: float = 1.0,
    reduction: Literal["mean", "none"] = "mean",
) -> NKDTerms:
    """Compute NKD's target part and non-target part.

    With p, q the softmaxes of teacher and student at temperature 1 and y the label, the target part is the batch
    mean of ``-p_y log q_y``. The non-target part is T^2 times the batch mean of the cross-entropy
    ``-sum_{c != y} p^_c log q^_c`` between the softmaxes at temperature T over the C - 1 classes other than y.
    Both are cross-entropies, >= 0, and not 0 where the networks agree.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        target: (B,) or (...,) int64 labels in [0, C).
        temperature: T of the non-target part, above 0.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        Two scalars, or two (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: logits or target do not fit each other (shape, dtype, device, range), B = 0 or C < 2; the
            temperature is not finite and above 0; or the reduction is unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 5.0]])
        >>> target, non_target = nkd_terms(student, teacher, torch.tensor([2]))
        >>> target, non_target
        (tensor(0.3533), tensor(0.4325))
    """
    check_logits(student_logits, teacher_logits, leading=True)
    check_target(target, student_logits)
    check_temperature(temperature)
    check_reduction(reduction)
    student, teacher = as_rows(student_logits, teacher_logits)
    label = target.reshape(-1, 1)
    log_q, log_p = (logits.log_softmax(1).gather(1, label) for logits in (student, teacher))
    log_q_others, log_p_others = (log_softmax_outside(logits / temperature, label) for logits in (student, teacher))
    own, others = -(log_p.exp() * log_q).squeeze(1), -(log_p_others.exp() * log_q_others).sum(1)
    own, others = (part.mean() if reduction == "mean" else part.reshape(target.shape) for part in (own, others))
    return NKDTerms(own, others * temperature**2)


def nkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    gamma: float = 1.5,
    temperature: float = 1.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute normalised knowledge distillation's loss.

    NKD = target part + gamma * non-target part, see :func:`nkd_terms`. The cross-entropy with the labels is not
    included. Finite wherever the mathematics is: no log of a softmax, and an exact mask.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        target: (B,) or (...,) int64 labels in [0, C).
        gamma: weight of the non-target part.
        temperature: T of the non-target part, above 0; the target part is always at temperature 1.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        A scalar, or (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`nkd_terms`, or gamma is not finite.

    Reference:
        Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with
        Normalized Loss and Customized Soft Labels", ICCV 2023, arXiv 2303.13005.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 5.0]])
        >>> nkd(student, teacher, torch.tensor([2]))
        tensor(1.0020)
    """
    check_finite(gamma=gamma)
    terms = nkd_terms(student_logits, teacher_logits, target, temperature=temperature, reduction=reduction)
    return terms.target + gamma * terms.non_target


class NKD(nn.Module):
    """:func:`nkd` with its weight and temperature.

    Args:
        gamma: weight of the non-target part.
        temperature: T of the non-target part, above 0.

    Raises:
        ValueError: gamma is not finite, or the temperature is not finite and above 0.

    Example:
        >>> NKD(temperature=2.0)
        NKD(gamma=1.5, temperature=2.0)
    """

    per_sample = True
    teacher_offer = "probabilities"

    def __init__(self, gamma: float = 1.5, temperature: float = 1.0) -> None:
        super().__init__()
        check_finite(gamma=gamma)
        check_temperature(temperature)
        self.gamma = gamma
        self.temperature = temperature

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return :func:`nkd` of two (B, C) logits and (B,) labels."""
        return nkd(student_logits, teacher_logits, target, gamma=self.gamma, temperature=self.temperature)

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        return nkd(
            student_logits, teacher_logits, target, gamma=self.gamma, temperature=self.temperature, reduction="none"
        )

    extra_repr = settings_repr
