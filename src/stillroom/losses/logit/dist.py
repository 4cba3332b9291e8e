"""DIST, distillation from a stronger teacher: predictions correlate, over the classes and over the samples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_finite, check_logits, check_temperature
from stillroom.losses.numerics import widen
from stillroom.losses.protocol import settings_repr

EPSILON = 1e-8  # the published guard against a constant row or column


class DISTTerms(NamedTuple):
    """The two parts of DIST, unweighted scalars."""

    inter: Tensor
    intra: Tensor


def dist_terms(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0) -> DISTTerms:
    """Compute DIST's inter-class part (rows) and intra-class part (columns).

    With P, Q the (B, C) softmaxes of teacher and student at temperature T, inter is T^2 times the mean over
    samples of ``1 - rho(P[b, :], Q[b, :])`` and intra T^2 times the mean over classes of
    ``1 - rho(P[:, c], Q[:, c])``, where rho is Pearson's correlation ``<x, y> / (|x| |y| + 1e-8)`` of the centred
    vectors. Each lies in [0, 2 T^2]. A constant vector correlates with nothing (rho = 0): with B = 1 intra is T^2
    with gradient 0, and a class with constant probabilities adds its full part even where the two agree.

    Args:
        student_logits: (B, C), any floating dtype; computed in float32 at least.
        teacher_logits: (B, C); no gradient reaches it.
        temperature: T, above 0.

    Returns:
        Two scalars, float32 (float64 if an input is).

    Raises:
        ValueError: the logits disagree in shape or device, are not (B, C) floating, B = 0 or C < 2; or the
            temperature is not finite and above 0.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 1.0]]), torch.eye(3)[:2]
        >>> inter, intra = dist_terms(student, teacher, temperature=1.0)
        >>> inter, intra
        (tensor(1.6039), tensor(1.6667))
    """
    check_logits(student_logits, teacher_logits)
    check_temperature(temperature)
    student, teacher = widen(student_logits, teacher_logits)
    q, p = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    inter, intra = (1 - _pearson(q, p, dim).mean() for dim in (1, 0))
    return DISTTerms(inter * temperature**2, intra * temperature**2)


def dist(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 4.0,
) -> Tensor:
    """Compute DIST's loss: relations instead of values.

    DIST = beta * inter + gamma * intra, see :func:`dist_terms`. Correlation ignores scale and shift, so a strong
    teacher's sharpness need not be copied. Unlike other logit losses it is not a mean over samples: the columns need
    the batch. The cross-entropy with the labels is not included.

    Args:
        student_logits: (B, C), any floating dtype; computed in float32 at least.
        teacher_logits: (B, C); no gradient reaches it.
        beta: weight of the inter-class part.
        gamma: weight of the intra-class part.
        temperature: T, above 0; published 4 on CIFAR-100, 1 on ImageNet.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`dist_terms`, or beta or gamma is not finite.

    Reference:
        Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, arXiv 2205.10536.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 1.0]]), torch.eye(3)[:2]
        >>> dist(student, teacher, temperature=1.0)
        tensor(3.2706)
    """
    check_finite(beta=beta, gamma=gamma)
    terms = dist_terms(student_logits, teacher_logits, temperature=temperature)
    return beta * terms.inter + gamma * terms.intra


class DIST(nn.Module):
    """:func:`dist` with its weights and temperature.

    Args:
        beta: weight of the inter-class part.
        gamma: weight of the intra-class part.
        temperature: T, above 0.

    Raises:
        ValueError: a weight is not finite, or the temperature is not finite and above 0.

    Example:
        >>> DIST(beta=2.0)
        DIST(beta=2.0, gamma=1.0, temperature=4.0)
    """

    teacher_offer = "probabilities"

    def __init__(self, beta: float = 1.0, gamma: float = 1.0, temperature: float = 4.0) -> None:
        super().__init__()
        check_finite(beta=beta, gamma=gamma)
        check_temperature(temperature)
        self.beta = beta
        self.gamma = gamma
        self.temperature = temperature

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return :func:`dist` of two (B, C) logits."""
        return dist(student_logits, teacher_logits, beta=self.beta, gamma=self.gamma, temperature=self.temperature)

    extra_repr = settings_repr


def _pearson(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Pearson correlation along a dimension, 0 where a vector is constant."""
    x, y = x - x.mean(dim, keepdim=True), y - y.mean(dim, keepdim=True)
    lengths = torch.linalg.vector_norm(x, dim=dim) * torch.linalg.vector_norm(y, dim=dim)
    correlation: Tensor = (x * y).sum(dim) / (lengths + EPSILON)
    return correlation
