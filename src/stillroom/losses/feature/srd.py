"""SRD, simple recipe distillation: a projected embedding meets the teacher's, both batch-normalised, under a log."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

from torch import Tensor, nn

from stillroom.losses.checks import check_embeddings, check_finite, check_same_shape, check_temperature
from stillroom.losses.connectors import cast_for, linear_projector, not_connected
from stillroom.losses.finite import check_result
from stillroom.losses.logit.kd import kd
from stillroom.losses.numerics import negligible, widen
from stillroom.losses.protocol import settings_repr

NORM_EPSILON = 1e-4  # of the batch normalisation, as published


class SRDTerms(NamedTuple):
    """The two parts of simple recipe distillation, unweighted scalars."""

    feature: Tensor
    kl: Tensor


def srd_feature(
    student_embedding: Tensor, teacher_embedding: Tensor, *, power: float = 4.0, epsilon: float = 1e-5
) -> Tensor:
    """Compute the feature part of SRD: the logarithm of a sum of powers of differences.

    ``2 log(sum_{b,d} |s_bd - t_bd|^power + epsilon)``, over the whole batch, of embeddings that are already normalised.
    A factor of all differences is a constant to the gradient; the logarithm makes the gradient grow as the embeddings
    approach each other. With epsilon 0, as published for CNNs, there is no least value; equal embeddings then get the
    smallest logarithm of the dtype and no gradient.

    Args:
        student_embedding: (B, D), any floating dtype; computed in float32 at least.
        teacher_embedding: the same shape; no gradient reaches it.
        power: of the differences, at least 1.
        epsilon: added to the sum, at least 0.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: an embedding is not (B, D) floating or is empty, the two disagree in shape or device, or power or
            epsilon is out of range.

    Example:
        >>> import torch
        >>> srd_feature(torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]))
        tensor(5.6664)
    """
    check_embeddings(student_embedding, teacher_embedding)
    fix = "project the student to the teacher's width first, as the module SRD does"
    check_same_shape("student_embedding", student_embedding, "teacher_embedding", teacher_embedding, fix=fix)
    _check_settings(power, epsilon)
    student, teacher = widen(student_embedding, teacher_embedding)
    gaps = (student - teacher).abs()
    # At this scale no power over- or underflows, and epsilon / scale^power is at most 1.
    scale = gaps.detach().amax().clamp_min(max(epsilon ** (1 / power), negligible(gaps.dtype)))
    total = (gaps / scale).pow(power).sum() + (epsilon ** (1 / power) / scale).pow(power)
    loss = 2 * (total.clamp_min(negligible(gaps.dtype)).log() + power * scale.log())
    return check_result(loss, student_embedding=student_embedding, teacher_embedding=teacher_embedding)


def srd_terms(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    power: float = 4.0,
    epsilon: float = 1e-5,
    temperature: float = 1.0,
) -> SRDTerms:
    """Compute SRD's two parts: :func:`srd_feature` of the batch-normalised embeddings, and the KL of the logits.

    Each column of an embedding is centred over the batch and divided by ``sqrt(variance + 1e-4)``, the biased variance;
    each network by itself, with the statistics of the batch. The KL is KL(softmax(t / T) || softmax(s / T)), a mean
    over the batch, without a factor T^2.

    Args:
        student_embedding: (B, D), projected to the teacher's width, B >= 2; any floating dtype, computed in float32 at
            least.
        teacher_embedding: the same shape; no gradient reaches it.
        student_logits: (B, C).
        teacher_logits: the same shape; no gradient reaches it.
        power: of the differences, at least 1.
        epsilon: added to the sum under the logarithm, at least 0.
        temperature: T of the KL, above 0.

    Returns:
        Two scalars, float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`srd_feature` and :func:`stillroom.losses.kd`, or B = 1.
    """
    check_embeddings(student_embedding, teacher_embedding)
    if student_embedding.shape[0] < 2:
        raise ValueError(
            "student_embedding has batch size 1: SRD normalises over the batch and needs two samples, drop the last "
            "batch"
        )
    student, teacher = widen(student_embedding, teacher_embedding)
    feature = srd_feature(_normalised(student), _normalised(teacher), power=power, epsilon=epsilon)
    return SRDTerms(feature, kd(student_logits, teacher_logits, temperature=temperature) / temperature**2)


def srd(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    power: float = 4.0,
    epsilon: float = 1e-5,
    kl: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """Compute simple recipe distillation's loss.

    SRD = feature part + kl * KL, see :func:`srd_terms`. It may be negative. Each sample's gradient depends on the whole
    batch.

    Args:
        student_embedding: (B, D), projected to the teacher's width, B >= 2; any floating dtype, computed in float32 at
            least.
        teacher_embedding: the same shape; no gradient reaches it.
        student_logits: (B, C).
        teacher_logits: the same shape; no gradient reaches it.
        power: of the differences, at least 1.
        epsilon: added to the sum under the logarithm, at least 0.
        kl: weight of the KL.
        temperature: T of the KL, above 0.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`srd_terms`, or kl is not finite.

    Reference:
        Miles and Mikolajczyk, "Understanding the Role of the Projector in Knowledge Distillation", AAAI 2024,
        arXiv 2303.11098.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([[0.0, 0.0], [2.0, 4.0]])
        >>> logits = torch.tensor([[1.0, 2.0], [1.0, 0.0]]), torch.tensor([[1.0, 3.0], [1.0, 0.0]])
        >>> srd(*embeddings, *logits)
        tensor(6.9642)
    """
    check_finite(kl=kl)
    embeddings, logits = (student_embedding, teacher_embedding), (student_logits, teacher_logits)
    terms = srd_terms(*embeddings, *logits, power=power, epsilon=epsilon, temperature=temperature)
    return terms.feature + kl * terms.kl


class SRD(nn.Module):
    """:func:`srd` behind a linear layer that brings the student's embedding to the teacher's width.

    The layer is there also where the widths agree, as published.

    Args:
        power: of the differences, at least 1.
        epsilon: added to the sum under the logarithm, at least 0.
        kl: weight of the KL.
        temperature: T of the KL, above 0.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> import torch
        >>> SRD().connect(torch.zeros(2, 3), torch.zeros(2, 5)).projector
        Linear(in_features=3, out_features=5, bias=True)
    """

    projector: nn.Linear | None

    teacher_offer = "top-k"

    def __init__(self, power: float = 4.0, epsilon: float = 1e-5, kl: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        _check_settings(power, epsilon)
        check_finite(kl=kl)
        check_temperature(temperature)
        self.power = power
        self.epsilon = epsilon
        self.kl = kl
        self.temperature = temperature
        self.register_module("projector", None)

    def connect(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Self:
        """Build the layer for (B, D) and (B, E) examples."""
        check_embeddings(student_embedding, teacher_embedding)
        self.projector = linear_projector(student_embedding, teacher_embedding)
        return self

    def forward(
        self, student_embedding: Tensor, teacher_embedding: Tensor, student_logits: Tensor, teacher_logits: Tensor
    ) -> Tensor:
        """Return :func:`srd` of a (B, D) and a (B, E) embedding and two (B, C) logits, B >= 2.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        if self.projector is None:
            raise not_connected(self, "student_embedding, teacher_embedding")
        check_embeddings(student_embedding, teacher_embedding)
        projected = self.projector(cast_for(self.projector, student_embedding))
        return srd(
            projected, teacher_embedding, student_logits, teacher_logits,
            power=self.power, epsilon=self.epsilon, kl=self.kl, temperature=self.temperature,
        )  # fmt: skip

    extra_repr = settings_repr


def _check_settings(power: float, epsilon: float) -> None:
    if not 1.0 <= power < math.inf:
        raise ValueError(f"power is {power}: it must be finite and at least 1 (4.0 is usual)")
    if not 0.0 <= epsilon < math.inf:
        raise ValueError(f"epsilon is {epsilon}: it must be finite and at least 0 (1e-5 is usual)")


def _normalised(x: Tensor) -> Tensor:
    """Return the columns with mean 0 over the batch, divided by sqrt(biased variance + epsilon)."""
    # Neither a shift of a column nor its scale (epsilon aside) changes the result: without them no square overflows,
    # and a constant column is exactly 0.
    x = x - x[:1].detach()
    scale = x.detach().abs().amax(0).clamp_min(math.sqrt(NORM_EPSILON))
    x = x / scale
    centred = x - x.mean(0)
    return centred * (centred.square().mean(0) + NORM_EPSILON / scale.square()).rsqrt()
