"""CRLD, cross-view consistency: KD within and across a weak and a strong view, where the teacher is confident."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from stillroom.losses.checks import check_finite, check_logits, check_temperature
from stillroom.losses.logit.kd import kd
from stillroom.losses.numerics import widen
from stillroom.losses.protocol import settings_repr
from stillroom.losses.strong_view import check_strong_view


class CRLDTerms(NamedTuple):
    """The two parts of cross-view consistency, unweighted scalars, and which samples count in each, (B,) booleans."""

    within: Tensor
    across: Tensor
    weak_kept: Tensor
    strong_kept: Tensor


def crld_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_logits_strong: Tensor,
    teacher_logits_strong: Tensor,
    *,
    temperature: float = 4.0,
    weak_threshold: float = 0.9,
    strong_threshold: float = 0.2,
) -> CRLDTerms:
    """Compute CRLD's part within the views, its part across them, and the confidence masks.

    With ``kl(a, b) = T^2 KL(softmax(b / T) || softmax(a / T))`` for each sample, s and t the student's and teacher's
    logits, w and s the weak and strong view::

        within = kl(s_w, t_w) + kl(s_s, t_s)   where the teacher's confidence on the weak view is enough
        across = kl(s_s, t_w) + kl(s_w, t_s)   where the teacher's confidence on the strong view is enough

    The confidence is the largest softmax probability at temperature 1. A sample that is not kept adds 0; the mean is
    over all samples. Both parts are >= 0.

    Args:
        student_logits: (B, C), the weak view, any floating dtype; computed in float32 at least.
        teacher_logits: (B, C); no gradient reaches it.
        student_logits_strong: (B, C), the same images in a strongly augmented view.
        teacher_logits_strong: (B, C); no gradient reaches it.
        temperature: T, above 0.
        weak_threshold: the least confidence on the weak view; 0 keeps all samples, above 1 none.
        strong_threshold: the least confidence on the strong view.

    Returns:
        Two scalars, float32 (float64 if an input is), and two (B,) booleans, whose means are the fractions of samples
        that are kept in each part.

    Raises:
        ValueError: the logits disagree in shape or device, are not (B, C) floating, B = 0 or C < 2; the temperature is
            not finite and above 0; or a threshold is not finite.

    Example:
        >>> import torch
        >>> weak, strong = torch.tensor([[1.0, 2.0], [0.0, 9.0]]), torch.tensor([[2.0, 1.0], [0.0, 5.0]])
        >>> crld_terms(weak, 2 * weak, strong, 2 * strong, temperature=1.0).weak_kept
        tensor([False,  True])
    """
    check_logits(student_logits, teacher_logits)
    check_strong_view(student_logits_strong, teacher_logits_strong, student_logits)
    check_temperature(temperature)
    check_finite(weak_threshold=weak_threshold, strong_threshold=strong_threshold)
    student, teacher = widen(student_logits, teacher_logits)
    student_strong, teacher_strong = widen(student_logits_strong, teacher_logits_strong)

    def rows(one: Tensor, other: Tensor) -> Tensor:
        return kd(one, other, temperature=temperature, reduction="none")

    weak_kept, strong_kept = _confidence(teacher) >= weak_threshold, _confidence(teacher_strong) >= strong_threshold
    # A product, so that a NaN of a sample that is left out is seen.
    within = (rows(student, teacher) + rows(student_strong, teacher_strong)) * weak_kept
    across = (rows(student_strong, teacher) + rows(student, teacher_strong)) * strong_kept
    return CRLDTerms(within.mean(), across.mean(), weak_kept, strong_kept)


def crld(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_logits_strong: Tensor,
    teacher_logits_strong: Tensor,
    *,
    within: float = 2.0,
    across: float = 0.5,
    temperature: float = 4.0,
    weak_threshold: float = 0.9,
    strong_threshold: float = 0.2,
) -> Tensor:
    """Compute the loss of cross-view consistency.

    CRLD = within * within part + across * across part, see :func:`crld_terms`. Where the networks agree on both views
    the within part is 0, the across part only if the views agree too. The cross-entropy, published over both views, is
    not included.

    Args:
        student_logits: (B, C), the weak view, any floating dtype; computed in float32 at least.
        teacher_logits: (B, C); no gradient reaches it.
        student_logits_strong: (B, C), the same images in a strongly augmented view.
        teacher_logits_strong: (B, C); no gradient reaches it.
        within: weight of the part within the views.
        across: weight of the part across the views.
        temperature: T, above 0.
        weak_threshold: the least confidence of the teacher on the weak view.
        strong_threshold: the least confidence of the teacher on the strong view.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`crld_terms`, or a weight is not finite.

    Reference:
        Zhang et al., "Cross-View Consistency Regularisation for Knowledge Distillation", ACM MM 2024,
        arXiv 2412.16493.

    Example:
        >>> import torch
        >>> weak, strong = torch.tensor([[1.0, 2.0], [0.0, 9.0]]), torch.tensor([[2.0, 1.0], [0.0, 5.0]])
        >>> crld(weak, 2 * weak, strong, 2 * strong, temperature=1.0)
        tensor(0.4226)
    """
    check_finite(within=within, across=across)
    terms = crld_terms(
        student_logits,
        teacher_logits,
        student_logits_strong,
        teacher_logits_strong,
        temperature=temperature,
        weak_threshold=weak_threshold,
        strong_threshold=strong_threshold,
    )
    return within * terms.within + across * terms.across


class CRLD(nn.Module):
    """:func:`crld` with its settings.

    Args:
        within: weight of the part within the views.
        across: weight of the part across the views.
        temperature: T, above 0.
        weak_threshold: the least confidence of the teacher on the weak view.
        strong_threshold: the least confidence of the teacher on the strong view.

    Raises:
        ValueError: a weight or a threshold is not finite, or the temperature is not finite and above 0.

    Example:
        >>> CRLD(within=1.0)
        CRLD(within=1.0, across=0.5, temperature=4.0, weak_threshold=0.9, strong_threshold=0.2)
    """

    per_sample = True
    teacher_offer = "top-k"

    def __init__(
        self,
        within: float = 2.0,
        across: float = 0.5,
        temperature: float = 4.0,
        weak_threshold: float = 0.9,
        strong_threshold: float = 0.2,
    ) -> None:
        super().__init__()
        check_finite(within=within, across=across, weak_threshold=weak_threshold, strong_threshold=strong_threshold)
        check_temperature(temperature)
        self.within = within
        self.across = across
        self.temperature = temperature
        self.weak_threshold = weak_threshold
        self.strong_threshold = strong_threshold

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        student_logits_strong: Tensor,
        teacher_logits_strong: Tensor,
    ) -> Tensor:
        """Return :func:`crld` of two views' (B, C) logits."""
        return crld(
            student_logits,
            teacher_logits,
            student_logits_strong,
            teacher_logits_strong,
            within=self.within,
            across=self.across,
            temperature=self.temperature,
            weak_threshold=self.weak_threshold,
            strong_threshold=self.strong_threshold,
        )

    extra_repr = settings_repr


def _confidence(logits: Tensor) -> Tensor:
    """Return each sample's largest probability, (B,)."""
    return logits.softmax(1).amax(1)
