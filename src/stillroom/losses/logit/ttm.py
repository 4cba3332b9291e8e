"""TTM and WTTM, transformed teacher matching: only the teacher is softened, by a power of its probabilities."""

from __future__ import annotations

from torch import Tensor, nn

from stillroom.losses.checks import check_logits, check_positive
from stillroom.losses.numerics import as_rows, kl_rows
from stillroom.losses.protocol import settings_repr


def ttm(student_logits: Tensor, teacher_logits: Tensor, *, gamma: float = 0.1) -> Tensor:
    """Compute transformed teacher matching's loss.

    With p the teacher's softmax and ``q = p^gamma / sum p^gamma = softmax(gamma t)``,
    TTM = 1 / B * sum_b KL(q_b || softmax(s_b)), >= 0. The student has temperature 1 and there is no T^2. It is 0
    where the student's softmax is q, hence not where the networks agree unless gamma is 1. The cross-entropy with
    the labels is not included.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        gamma: the exponent, 1 / T in terms of a temperature, above 0; below 1 it softens.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: the logits disagree in shape or device, are not (..., C) floating, B = 0 or C < 2; or gamma is
            not finite and above 0.

    Reference:
        Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024,
        arXiv 2402.11148.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[1.0, 2.0, 5.0]])
        >>> ttm(teacher, teacher)
        tensor(1.0162)
        >>> ttm(0.1 * teacher, teacher).item() < 1e-6
        True
    """
    rows, _ = _rows(student_logits, teacher_logits, gamma)
    return rows.mean()


def wttm(student_logits: Tensor, teacher_logits: Tensor, *, gamma: float = 0.1) -> Tensor:
    """Compute weighted transformed teacher matching's loss.

    WTTM = 1 / B * sum_b U_b KL(q_b || softmax(s_b)), :func:`ttm` with each sample weighted by the power sum
    ``U_b = sum p_b^gamma``: for gamma below 1 from 1, where the teacher is certain, to ``C^(1 - gamma)``, where it
    knows nothing. The cross-entropy with the labels is not included.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        gamma: the exponent, above 0; below 1 it softens.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`ttm`.

    Reference:
        As :func:`ttm`.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[1.0, 2.0, 5.0]])
        >>> wttm(teacher, teacher)
        tensor(2.4341)
    """
    rows, weights = _rows(student_logits, teacher_logits, gamma)
    return (weights * rows).mean()


class TTM(nn.Module):
    """:func:`ttm` with its exponent.

    Args:
        gamma: the exponent, above 0.

    Raises:
        ValueError: gamma is not finite and above 0.

    Example:
        >>> TTM(gamma=0.2)
        TTM(gamma=0.2)
    """

    per_sample = True
    teacher_offer = "top-k"

    def __init__(self, gamma: float = 0.1) -> None:
        super().__init__()
        check_positive(gamma=gamma)
        self.gamma = gamma

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return :func:`ttm` of two (B, C) logits."""
        return ttm(student_logits, teacher_logits, gamma=self.gamma)

    extra_repr = settings_repr


class WTTM(nn.Module):
    """:func:`wttm` with its exponent.

    Args:
        gamma: the exponent, above 0.

    Raises:
        ValueError: gamma is not finite and above 0.

    Example:
        >>> WTTM(gamma=0.2)
        WTTM(gamma=0.2)
    """

    per_sample = True
    teacher_offer = "top-k"

    def __init__(self, gamma: float = 0.1) -> None:
        super().__init__()
        check_positive(gamma=gamma)
        self.gamma = gamma

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return :func:`wttm` of two (B, C) logits."""
        return wttm(student_logits, teacher_logits, gamma=self.gamma)

    extra_repr = settings_repr


def _rows(student_logits: Tensor, teacher_logits: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Return each sample's divergence and its power sum, two (B,)."""
    check_logits(student_logits, teacher_logits, leading=True)
    check_positive(gamma=gamma)
    student, teacher = as_rows(student_logits, teacher_logits)
    log_power = gamma * teacher.log_softmax(1)
    return kl_rows(student.log_softmax(1), log_power.log_softmax(1)), log_power.logsumexp(1).exp()
