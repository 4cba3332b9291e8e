"""RKD, relational knowledge distillation: distances and angles between embeddings learn the teacher's."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillroom.losses.checks import check_feature, check_finite, check_pair
from stillroom.losses.numerics import or_one, widen
from stillroom.losses.protocol import settings_repr
from stillroom.losses.tensors import check_tensor


class RKDTerms(NamedTuple):
    """The two parts of relational knowledge distillation, unweighted scalars."""

    distance: Tensor
    angle: Tensor


def rkd_terms(student_embedding: Tensor, teacher_embedding: Tensor, *, squared: bool = False) -> RKDTerms:
    """Compute RKD's distance part and angle part.

    Distance: ``d_ij = |x_i - x_j|``, or its square, divided by the mean over all pairs i != j; the mean over i, j of
    the smooth L1 between student and teacher. Angle: the cosine at x_i between x_j and x_k; the mean over i, j, k of
    the smooth L1. The smooth L1 of a difference u is ``u^2 / 2`` up to ``|u| = 1``, then ``|u| - 1/2``. Both parts are
    >= 0, and 0 where one embedding is the other moved, rotated and scaled; the widths may differ. One sample alone
    costs 0, two have no angle.

    The cosines come from squared distances (law of cosines), in O(B^2 D + B^3) time and O(B^3) memory, without
    the B^2 differences of width D. The squared distances are sums of squared differences, not differences of
    products, so a cosine is off by about the rounding unit times the ratio of the distances in its triangle, and
    not by the (much larger) ratio of an embedding's length to the distance.

    Samples closer than the rounding unit times the largest entry are treated as one point: distance 0, and cosine 0 and
    gradient 0 in the angles that need a direction between them.

    Args:
        student_embedding: (B, ...), any floating dtype, flattened to (B, D); computed in float32 at least.
        teacher_embedding: (B, ...); no gradient reaches it.
        squared: whether the distance part compares squared distances.

    Returns:
        Two scalars, float32 (float64 if an input is).

    Raises:
        ValueError: an embedding has fewer than two dimensions, is not floating or is empty, or the two disagree in
            batch or device.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> distance, angle = rkd_terms(student, teacher)
        >>> distance, angle
        (tensor(0.0717), tensor(0.1296))
    """
    for name, embedding in (("student_embedding", student_embedding), ("teacher_embedding", teacher_embedding)):
        check_tensor(name, embedding)
        check_feature(name, embedding, dimensions=max(2, embedding.dim()), shape="(B, ...)")
    check_pair("student_embedding", student_embedding, "teacher_embedding", teacher_embedding)
    pair = widen(student_embedding.flatten(1), teacher_embedding.flatten(1))
    student, teacher = (_squared_distances(x) for x in pair)
    distance = functional.smooth_l1_loss(_relative_distances(student, squared), _relative_distances(teacher, squared))
    angle = functional.smooth_l1_loss(_cosines(student), _cosines(teacher))
    return RKDTerms(distance, angle)


def rkd(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    *,
    distance: float = 25.0,
    angle: float = 50.0,
    squared: bool = False,
) -> Tensor:
    """Compute relational knowledge distillation's loss.

    RKD = distance * distance part + angle * angle part, see :func:`rkd_terms`. Each sample's gradient depends on
    the whole batch.

    Args:
        student_embedding: (B, ...), any floating dtype, flattened to (B, D); computed in float32 at least.
        teacher_embedding: (B, ...); no gradient reaches it.
        distance: weight of the distance part.
        angle: weight of the angle part.
        squared: whether the distance part compares squared distances, as public code's switch does; the published
            runs do not.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`rkd_terms`, or a weight is not finite.

    Reference:
        Park et al., "Relational Knowledge Distillation", CVPR 2019, arXiv 1904.05068.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> rkd(student, teacher)
        tensor(8.2740)
        >>> rkd(3 * teacher + 1, teacher).round(decimals=6)
        tensor(0.)
    """
    check_finite(distance=distance, angle=angle)
    terms = rkd_terms(student_embedding, teacher_embedding, squared=squared)
    return distance * terms.distance + angle * terms.angle


class RKD(nn.Module):
    """:func:`rkd` with its settings.

    Args:
        distance: weight of the distance part.
        angle: weight of the angle part.
        squared: whether the distance part compares squared distances.

    Raises:
        ValueError: a weight is not finite.

    Example:
        >>> RKD(angle=100.0)
        RKD(distance=25.0, angle=100.0, squared=False)
    """

    def __init__(self, distance: float = 25.0, angle: float = 50.0, squared: bool = False) -> None:
        super().__init__()
        check_finite(distance=distance, angle=angle)
        self.distance = distance
        self.angle = angle
        self.squared = squared

    def forward(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
        """Return :func:`rkd` of a (B, D) and a (B, E) embedding."""
        return rkd(student_embedding, teacher_embedding, distance=self.distance, angle=self.angle, squared=self.squared)

    extra_repr = settings_repr


def _squared_distances(x: Tensor) -> Tensor:
    """Return the (B, B) squared distances at a scale where the largest centred entry is 1; 0 for the same point."""
    # Neither part changes when all samples are shifted or scaled together.
    x = x - x.mean(0)
    x = x / or_one(x.detach().abs().amax())
    lengths = x.square().sum(1)
    with torch.autocast(x.device.type, enabled=False):
        products = x @ x.t()
    squares = lengths[:, None] + lengths[None, :] - 2 * products
    # The value comes from sums of squared differences, which have no cancellation; the gradient from the products,
    # which need no B x B x D tensor.
    still = x.detach()
    exact = torch.cdist(still, still, compute_mode="donot_use_mm_for_euclid_dist").square()
    squares = squares + (exact - squares).detach()
    return squares.masked_fill(exact <= torch.finfo(x.dtype).eps ** 2, 0.0)


def _inverse_distances(squares: Tensor) -> Tensor:
    """Return 1 / d, and 0 with gradient 0 where d is 0."""
    same = squares == 0
    return squares.masked_fill(same, 1.0).rsqrt().masked_fill(same, 0.0)


def _relative_distances(squares: Tensor, squared: bool) -> Tensor:
    """Return the (B, B) distances, or their squares, divided by their mean off the diagonal."""
    distances = squares if squared else squares * _inverse_distances(squares)
    batch = squares.shape[0]
    return distances / or_one(distances.sum() / max(batch * (batch - 1), 1))


def _cosines(squares: Tensor) -> Tensor:
    """Return the (B, B, B) cosines: entry (i, j, k) is the angle at i between j and k."""
    inverse = _inverse_distances(squares)
    twice = squares[:, :, None] + squares[:, None, :] - squares[None, :, :]
    return twice * (inverse[:, :, None] * inverse[:, None, :] / 2)
