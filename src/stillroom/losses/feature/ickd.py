"""ICKD, inter-channel correlation distillation: correlations between the channels of a map learn the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_feature, check_maps, check_pair
from stillroom.losses.connectors import cast_for, conv_bn, not_connected, place
from stillroom.losses.numerics import or_one, unit_rows, widen

if TYPE_CHECKING:
    from collections.abc import Sequence


def ickd(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Compute inter-channel correlation distillation's loss.

    With f a sample's map as a (C, H W) matrix, G is ``f f^T`` with every row scaled to length 1. The loss is
    ``sum_ij (G_s - G_t)_ij^2 / C``, averaged over the batch, in [0, 4]. It is 0 where the maps agree up to a factor per
    sample or an orthogonal map of the places, the same for all channels; the sizes of the two maps need not agree. A
    channel that is 0 everywhere has a row of zeros.

    Args:
        student_map: (B, C, H, W), any floating dtype; computed in float32 at least.
        teacher_map: (B, C, H', W'); no gradient reaches it.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: a map is not (B, C, H, W) floating or is empty, or the two disagree in batch, channels or device.

    Reference:
        Liu et al., "Exploring Inter-Channel Correlation for Diversity-Preserved Knowledge Distillation", ICCV 2021,
        arXiv 2202.03680.

    Example:
        >>> import torch
        >>> student, teacher = torch.eye(2).reshape(1, 2, 2, 1), torch.ones(1, 2, 3, 3)
        >>> ickd(student, teacher)
        tensor(0.5858)
        >>> ickd(5 * teacher, teacher)
        tensor(0.)
    """
    check_feature("student_map", student_map, dimensions=4, shape="(B, C, H, W)")
    check_feature("teacher_map", teacher_map, dimensions=4, shape="(B, C, H, W)")
    check_pair("student_map", student_map, "teacher_map", teacher_map)
    if student_map.shape[1] != teacher_map.shape[1]:
        raise ValueError(
            f"student_map has {student_map.shape[1]} channels but teacher_map has {teacher_map.shape[1]}: "
            "embed the student's map to the teacher's channels first, as the module ICKD does"
        )
    student, teacher = widen(student_map.flatten(2), teacher_map.flatten(2))
    gaps = _correlations(student) - _correlations(teacher)
    return gaps.square().sum((1, 2)).mean() / student.shape[1]


class ICKD(nn.Module):
    """:func:`ickd` of the deepest level, behind an embedding of the student's map in the teacher's channels.

    The embedding is a 1x1 convolution and batch normalisation, also where the channels are as many.

    Example:
        >>> import torch
        >>> maps = [torch.randn(2, 4, 8, 8)], [torch.randn(2, 6, 4, 4)]
        >>> ICKD().connect(*maps)(*maps).shape
        torch.Size([])
    """

    embed: nn.Sequential | None

    per_sample = True

    def __init__(self) -> None:
        super().__init__()
        self.register_module("embed", None)

    def connect(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Self:
        """Build the embedding for the last level.

        Args:
            student_maps: an example of each level, (B, C, H, W).
            teacher_maps: as many; channels and sizes may differ.

        Raises:
            ValueError: the maps do not fit each other.
        """
        check_maps(student_maps, teacher_maps)
        self.embed = place(conv_bn(student_maps[-1].shape[1], teacher_maps[-1].shape[1]), student_maps[-1])
        return self

    def forward(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
        """Return :func:`ickd` of the last level of two tuples of maps.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        check_maps(student_maps, teacher_maps)
        if self.embed is None:
            raise not_connected(self, "student_maps, teacher_maps")
        return ickd(self.embed(cast_for(self.embed, student_maps[-1])), teacher_maps[-1])


def _correlations(x: Tensor) -> Tensor:
    """Return the (B, C, C) Gram matrices of (B, C, N) maps, with rows of length 1."""
    # A sample's common factor drops out of the rows; without it products of large features do not overflow.
    x = x / or_one(x.detach().abs().amax((1, 2), keepdim=True))
    with torch.autocast(x.device.type, enabled=False):
        gram = x @ x.transpose(1, 2)
    return unit_rows(gram)
