"""WSLD, weighted soft labels: KD with a weight per sample that compares student and teacher on the label."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from stillroom.losses.checks import check_logits, check_reduction, check_target, check_temperature
from stillroom.losses.numerics import as_rows, class_gap
from stillroom.losses.protocol import settings_repr

EPSILON = 1e-7  # the published guard against a teacher whose cross-entropy is 0


def wsld(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    temperature: float = 2.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute weighted soft label distillation's loss.

    WSLD = T^2 / B * sum_b w_b H(softmax(t_b / T), softmax(s_b / T)) with the cross-entropy H and the weight
    ``w_b = 1 - exp(-CE_s / (CE_t + 1e-7))`` in [0, 1], where CE_s and CE_t are student's and teacher's
    cross-entropy with the label at temperature 1. The weight is a constant to the gradient. H contains the
    teacher's entropy, so the loss is >= 0 and in general not 0 where the networks agree; the gradient is.

    Neither the published factor alpha = 2.5 nor the cross-entropy with the labels is included.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        target: (B,) or (...,) int64 labels in [0, C).
        temperature: T, above 0.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        A scalar, or (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: logits or target do not fit each other (shape, dtype, device, range), B = 0 or C < 2; the
            temperature is not finite and above 0; or the reduction is unknown.

    Reference:
        Zhou et al., "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective",
        ICLR 2021, arXiv 2102.00650.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 2.0, 5.0]])
        >>> wsld(student, teacher, torch.tensor([2]))
        tensor(3.4410)
    """
    check_logits(student_logits, teacher_logits, leading=True)
    check_target(target, student_logits)
    check_temperature(temperature)
    check_reduction(reduction)
    student, teacher = as_rows(student_logits, teacher_logits)
    label = target.reshape(-1, 1)
    # A label's cross-entropy is softplus of minus its gap, which stays exact where it is far below 1e-7.
    ce_student, ce_teacher = (functional.softplus(-class_gap(logits, label)) for logits in (student.detach(), teacher))
    weights = -(-ce_student / (ce_teacher + EPSILON)).expm1()
    soft = -((teacher / temperature).softmax(1) * (student / temperature).log_softmax(1)).sum(1)
    rows = weights * soft
    return (rows.mean() if reduction == "mean" else rows.reshape(target.shape)) * temperature**2


class WSLD(nn.Module):
    """:func:`wsld` with its temperature.

    Args:
        temperature: T, above 0.

    Raises:
        ValueError: the temperature is not finite and above 0.

    Example:
        >>> WSLD()
        WSLD(temperature=2.0)
    """

    per_sample = True
    teacher_offer = "top-k"

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return :func:`wsld` of two (B, C) logits and (B,) labels."""
        return wsld(student_logits, teacher_logits, target, temperature=self.temperature)

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        return wsld(student_logits, teacher_logits, target, temperature=self.temperature, reduction="none")

    extra_repr = settings_repr
