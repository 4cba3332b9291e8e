"""SP, similarity preserving: similarities between the samples of a batch learn the teacher's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_feature, check_pair
from stillroom.losses.numerics import or_one, unit_rows, widen
from stillroom.losses.tensors import check_levels, check_tensor


def sp(student_feature: Tensor, teacher_feature: Tensor) -> Tensor:
    """Compute similarity-preserving distillation's loss.

    With F the features as a (B, D) matrix, one row per sample, G is ``F F^T`` with every row scaled to length 1.
    The loss is ``sum_ij (G_s - G_t)_ij^2 / B^2``, in [0, 4 / B]. It is 0 where the features agree up to a factor or
    a rotation of the whole space. Widths and shapes of the two networks need not agree. One sample alone is similar
    to itself in both networks: 0.

    A sample whose feature is zero has a row of zeros.

    Args:
        student_feature: (B, ...), any floating dtype; computed in float32 at least.
        teacher_feature: (B, ...); no gradient reaches it.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: a feature has fewer than two dimensions, is not floating or is empty; or the two disagree in
            batch or device.

    Reference:
        Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, arXiv 1907.09682.

    Example:
        >>> import torch
        >>> student, teacher = torch.eye(2), torch.ones(2, 3)
        >>> sp(student, teacher)
        tensor(0.2929)
        >>> sp(5 * teacher, teacher)
        tensor(0.)
    """
    for name, feature in (("student_feature", student_feature), ("teacher_feature", teacher_feature)):
        check_tensor(name, feature)
        check_feature(name, feature, dimensions=max(2, feature.dim()), shape="(B, ...)")
    check_pair("student_feature", student_feature, "teacher_feature", teacher_feature)
    student, teacher = widen(student_feature.flatten(1), teacher_feature.flatten(1))
    return (_similarities(student) - _similarities(teacher)).square().sum() / student.shape[0] ** 2


class SP(nn.Module):
    """:func:`sp` of the deepest level.

    Example:
        >>> SP()
        SP()
    """

    def forward(self, student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]) -> Tensor:
        """Return :func:`sp` of the last of the (B, ...) features."""
        check_levels("student_features", student_features)
        check_levels("teacher_features", teacher_features)
        if not student_features or not teacher_features:
            raise ValueError(
                f"student_features has {len(student_features)} and teacher_features {len(teacher_features)} levels: "
                "give at least one of both"
            )
        return sp(student_features[-1], teacher_features[-1])


def _similarities(x: Tensor) -> Tensor:
    """Return the (B, B) Gram matrix with rows of length 1."""
    # A common factor drops out of the rows; without it products of large features do not overflow.
    x = x / or_one(x.detach().abs().amax())
    with torch.autocast(x.device.type, enabled=False):
        gram = x @ x.t()
    return unit_rows(gram)
