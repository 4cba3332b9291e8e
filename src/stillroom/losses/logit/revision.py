"""REVISION, label revision: the teacher's logits where it is correct, its revised probabilities elsewhere."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillroom.losses.checks import check_finite, check_logits, check_target
from stillroom.losses.finite import check_result
from stillroom.losses.numerics import widen
from stillroom.losses.protocol import settings_repr


class RevisionTerms(NamedTuple):
    """The three parts of label revision, unweighted scalars."""

    cross_entropy: Tensor
    logits: Tensor
    revised: Tensor


def revision_terms(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, eta: float = 0.8
) -> RevisionTerms:
    """Compute two parts over the samples that the teacher classifies correctly, and one over the others.

    With y the label and p, q the softmaxes of teacher and student at temperature 1:

    - over the samples whose largest teacher logit is the label's, the mean of -log q_y, and the mean over samples
      and classes of (s - t)^2;
    - over the others, the mean over samples and classes of (q - r)^2 with the revised label
      ``r = beta p + (1 - beta) onehot(y)`` and ``beta = eta / (max p - p_y + 1)``, of which y is the largest class.

    A part whose samples do not occur in the batch is 0.

    Args:
        student_logits: (B, C), any floating dtype; computed in float32 at least.
        teacher_logits: (B, C); no gradient reaches it.
        target: (B,) int64 labels in [0, C).
        eta: weight of the teacher in the revised label, above 0 and below 1.

    Returns:
        Three scalars, float32 (float64 if an input is).

    Raises:
        ValueError: logits or target do not fit each other (shape, dtype, device, range), B = 0 or C < 2; or eta is not
            between 0 and 1.

    Example:
        >>> student = torch.zeros(2, 2)
        >>> teacher = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> revision_terms(student, teacher, torch.tensor([0, 1]))
        RevisionTerms(cross_entropy=tensor(0.6931), logits=tensor(2.), revised=tensor(0.0100))
    """
    check_logits(student_logits, teacher_logits)
    check_target(target, student_logits)
    _check_eta(eta)
    student, teacher = widen(student_logits, teacher_logits)
    label = target.unsqueeze(1)
    correct = teacher.argmax(1) == target
    cross_entropy = functional.cross_entropy(student, target, reduction="none")
    logits = (student - teacher).square().mean(1)
    p = teacher.softmax(1)
    beta = eta / (p.amax(1, keepdim=True) - p.gather(1, label) + 1.0)
    revised_label = (beta * p).scatter_add(1, label, 1.0 - beta)
    revised = (student.softmax(1) - revised_label).square().mean(1)
    return RevisionTerms(
        _mean_where(correct, cross_entropy), _mean_where(correct, logits), _mean_where(~correct, revised)
    )


def revision(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    lambda1: float = 4.0,
    lambda2: float = 1.0,
    eta: float = 0.8,
) -> Tensor:
    """Compute the loss of label revision.

    REVISION = cross-entropy part + lambda1 * logit part + lambda2 * revised part, see :func:`revision_terms`. The
    cross-entropy with the labels is INCLUDED, for the samples that the teacher classifies correctly: add no other.

    Args:
        student_logits: (B, C), any floating dtype; computed in float32 at least.
        teacher_logits: (B, C); no gradient reaches it.
        target: (B,) int64 labels in [0, C).
        lambda1: weight of the logit part.
        lambda2: weight of the revised part.
        eta: weight of the teacher in the revised label, above 0 and below 1.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`revision_terms`, or a weight is not finite.

    Reference:
        Lan et al., "Improve Knowledge Distillation via Label Revision and Data Selection", arXiv 2404.03693: label
        revision, without the data selection.

    Example:
        >>> teacher = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> revision(torch.zeros(2, 2), teacher, torch.tensor([0, 1]))
        tensor(8.7031)
    """
    check_finite(lambda1=lambda1, lambda2=lambda2)
    terms = revision_terms(student_logits, teacher_logits, target, eta=eta)
    loss = terms.cross_entropy + lambda1 * terms.logits + lambda2 * terms.revised
    return check_result(loss, student_logits=student_logits, teacher_logits=teacher_logits)


class REVISION(nn.Module):
    """:func:`revision` with its weights; the cross-entropy is inside.

    Args:
        lambda1: weight of the logit part.
        lambda2: weight of the revised part.
        eta: weight of the teacher in the revised label, above 0 and below 1.

    Raises:
        ValueError: a weight is not finite, or eta is not between 0 and 1.

    Example:
        >>> REVISION(lambda1=2.0)
        REVISION(lambda1=2.0, lambda2=1.0, eta=0.8)
    """

    def __init__(self, lambda1: float = 4.0, lambda2: float = 1.0, eta: float = 0.8) -> None:
        super().__init__()
        check_finite(lambda1=lambda1, lambda2=lambda2)
        _check_eta(eta)
        self.lambda1 = lambda1
        self.lambda2 = lambda2
        self.eta = eta

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return :func:`revision` of two (B, C) logits and (B,) labels."""
        return revision(
            student_logits, teacher_logits, target, lambda1=self.lambda1, lambda2=self.lambda2, eta=self.eta
        )

    extra_repr = settings_repr


def _check_eta(eta: float) -> None:
    """Refuse a weight with which the label need not be the largest class, or without a teacher."""
    if not 0.0 < eta < 1.0:
        raise ValueError(f"eta is {eta}: it must be above 0 and below 1, so that the label is the revised label's top")


def _mean_where(chosen: Tensor, rows: Tensor) -> Tensor:
    """Mean of the chosen rows, 0 without any; of fixed shape, unlike picking them out."""
    return torch.where(chosen, rows, 0.0).sum() / chosen.sum().clamp(min=1)
