"""ITRD, information-theoretic representation distillation: units correlate, and sample similarities agree."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_embeddings, check_finite, check_positive, check_same_shape
from stillroom.losses.connectors import not_connected
from stillroom.losses.numerics import or_one, unit_rows, widen
from stillroom.losses.protocol import settings_repr


class ITRDTerms(NamedTuple):
    """The two parts of information-theoretic representation distillation, unweighted scalars."""

    correlation: Tensor
    mutual: Tensor


def itrd_correlation(student_embedding: Tensor, teacher_embedding: Tensor, *, alpha: float = 1.01) -> Tensor:
    """Compute the correlation part of ITRD.

    With rho_d Pearson's correlation over the batch between unit d of student and teacher, the part is
    ``log2 sum_d |1 - (B - 1) / B * rho_d|^(2 alpha)``. It falls as the units correlate and is smallest,
    ``log2(D) - 2 alpha log2(B)``, where rho is 1 everywhere; it may be negative. Scale and shift of a unit do not
    matter. The factor (B - 1) / B is public code's (unbiased deviations, products divided by B); it keeps the sum
    above 0.

    A unit that is constant over the batch correlates with nothing: rho = 0, gradient 0.

    Args:
        student_embedding: (B, D), any floating dtype; computed in float32 at least. B >= 2.
        teacher_embedding: (B, D), the same width; no gradient reaches it.
        alpha: order of the entropy, above 0.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: an embedding is not (B, D) floating or is empty, B = 1, or the two disagree in shape or device;
            or alpha is not finite and above 0.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
        >>> itrd_correlation(-teacher, teacher), itrd_correlation(teacher, teacher)
        (tensor(2.4887), tensor(-2.2016))
    """
    _check(student_embedding, teacher_embedding)
    check_positive(alpha=alpha)
    student, teacher = widen(student_embedding, teacher_embedding)
    batch = student.shape[0]
    rho = (_standard_columns(student) * _standard_columns(teacher)).sum(1)
    return (1 - (batch - 1) / batch * rho).abs().pow(2 * alpha).sum().log2()


def itrd_mutual(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Compute the mutual-information part of ITRD.

    G_s and G_t are the (B, B) cosine similarities, G_st their entrywise product; G_s and G_st are divided by their
    traces. The part is ``sum_ij (G_s^2 - G_st^2)_ij``, in [0, 1) unless an embedding is zero. It charges the student
    for every pair that it finds more alike than the teacher does, and nothing for a pair that it holds apart: it is
    not smallest where the networks agree, but 0 where the student's samples are orthogonal. One sample alone costs
    0. The widths may differ.

    The cosine of a zero embedding is 0 with everything, itself included.

    Args:
        student_embedding: (B, D), any floating dtype; computed in float32 at least.
        teacher_embedding: (B, E); no gradient reaches it.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: an embedding is not (B, D) floating or is empty, or the two disagree in batch or device.

    Example:
        >>> import torch
        >>> itrd_mutual(torch.ones(2, 3), torch.eye(2)), itrd_mutual(torch.eye(2), torch.ones(2, 3))
        (tensor(0.5000), tensor(0.))
    """
    check_embeddings(student_embedding, teacher_embedding)
    student, teacher = (unit_rows(x) for x in widen(student_embedding, teacher_embedding))
    with torch.autocast(student.device.type, enabled=False):
        own, other = student @ student.t(), teacher @ teacher.t()
    joint = own * other
    own, joint = own / or_one(own.trace()), joint / or_one(joint.trace())
    return (own.square() - joint.square()).sum()


def itrd_terms(student_embedding: Tensor, teacher_embedding: Tensor, *, alpha: float = 1.01) -> ITRDTerms:
    """Compute :func:`itrd_correlation` and :func:`itrd_mutual` of embeddings of the same width.

    Args:
        student_embedding: (B, D), any floating dtype; computed in float32 at least. B >= 2.
        teacher_embedding: (B, D), the same width; no gradient reaches it.
        alpha: order of the entropy in the correlation part, above 0.

    Returns:
        Two scalars, float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`itrd_correlation`.
    """
    _check(student_embedding, teacher_embedding)
    # Widened once: two half-precision gradients that overflow would add up to NaN.
    pair = widen(student_embedding, teacher_embedding)
    return ITRDTerms(itrd_correlation(*pair, alpha=alpha), itrd_mutual(*pair))


def itrd(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    *,
    alpha: float = 1.01,
    correlation: float = 2.0,
    mutual: float = 1.0,
) -> Tensor:
    """Compute information-theoretic representation distillation's loss for embeddings of the same width.

    ITRD = correlation * correlation part + mutual * mutual part, see :func:`itrd_correlation` and
    :func:`itrd_mutual`. It may be negative, and is not 0 where the networks agree.

    Args:
        student_embedding: (B, D), any floating dtype; computed in float32 at least. B >= 2.
        teacher_embedding: (B, D), the same width; no gradient reaches it.
        alpha: order of the entropy in the correlation part, above 0.
        correlation: weight of the correlation part.
        mutual: weight of the mutual-information part.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`itrd_correlation`, or a weight is not finite.

    Reference:
        Miles, Lopez-Rodriguez and Mikolajczyk, "Information Theoretic Representation Distillation", BMVC 2022,
        arXiv 2112.00459.

    Example:
        >>> import torch
        >>> itrd(torch.eye(2), torch.eye(2))
        tensor(-2.0400)
    """
    check_finite(correlation=correlation, mutual=mutual)
    terms = itrd_terms(student_embedding, teacher_embedding, alpha=alpha)
    return correlation * terms.correlation + mutual * terms.mutual


class ITRD(nn.Module):
    """:func:`itrd` behind a linear layer that brings the student's embedding to the teacher's width.

    The layer is always in front of the correlation part; in front of the mutual part only where the widths differ.

    Args:
        alpha: order of the entropy in the correlation part, above 0.
        correlation: weight of the correlation part.
        mutual: weight of the mutual-information part.

    Raises:
        ValueError: alpha is not finite and above 0, or a weight is not finite.

    Example:
        >>> import torch
        >>> ITRD().connect(torch.zeros(2, 3), torch.zeros(2, 5)).embed
        Linear(in_features=3, out_features=5, bias=True)
    """

    embed: nn.Linear | None

    def __init__(self, alpha: float = 1.01, correlation: float = 2.0, mutual: float = 1.0) -> None:
        super().__init__()
        check_positive(alpha=alpha)
        check_finite(correlation=correlation, mutual=mutual)
        self.alpha = alpha
        self.correlation = correlation
        self.mutual = mutual
        self.register_module("embed", None)

    def connect(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Self:
        """Build the layer for (B, D) and (B, E) examples."""
        check_embeddings(student_embedding, teacher_embedding)
        widths = student_embedding.shape[1], teacher_embedding.shape[1]
        self.embed = nn.Linear(*widths, device=student_embedding.device)
        return self

    def forward(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
        """Return the loss of a (B, D) and a (B, E) embedding, B >= 2.

        Raises:
            RuntimeError: nothing is connected yet.
        """
        if self.embed is None:
            raise not_connected(self, "student_embedding, teacher_embedding")
        check_embeddings(student_embedding, teacher_embedding)
        student, _ = widen(student_embedding, teacher_embedding)
        embedded = self.embed(student.to(self.embed.weight.dtype))
        raw = student if student.shape[1] == teacher_embedding.shape[1] else embedded
        correlation = itrd_correlation(embedded, teacher_embedding, alpha=self.alpha)
        return self.correlation * correlation + self.mutual * itrd_mutual(raw, teacher_embedding)

    extra_repr = settings_repr


def _check(student_embedding: Tensor, teacher_embedding: Tensor) -> None:
    """Refuse embeddings whose units cannot be correlated one by one."""
    check_embeddings(student_embedding, teacher_embedding)
    fix = "bring the student to the teacher's width first, as the module ITRD does"
    check_same_shape("student_embedding", student_embedding, "teacher_embedding", teacher_embedding, fix=fix)
    if student_embedding.shape[0] < 2:
        raise ValueError(
            "student_embedding has batch size 1: a correlation over the batch needs two samples, drop the last batch"
        )


def _standard_columns(x: Tensor) -> Tensor:
    """Return the (D, B) units, centred over the batch and of length 1; zero where a unit is constant."""
    peak = x.detach().abs().amax(0)
    x = x - x.mean(0)
    # What is left of a constant after subtracting its rounded mean is not a signal.
    constant = x.detach().abs().amax(0) <= 4 * torch.finfo(x.dtype).eps * peak
    return unit_rows(x.masked_fill(constant, 0.0).t())
