"""FitNet, hints: a regressor predicts one of the teacher's feature maps from the student's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.losses.checks import check_feature, check_maps, check_pair, check_same_shape
from stillroom.losses.connectors import cast_for, map_regressor, match_size, not_connected, size_of
from stillroom.losses.finite import check_result
from stillroom.losses.numerics import widen
from stillroom.losses.protocol import settings_repr

if TYPE_CHECKING:
    from collections.abc import Sequence


def fitnet(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Compute the hint loss of FitNets.

    The mean over all elements of (s - t)^2, where s is the regressor's output for the student's map. It is 0 only
    where the two agree.

    Args:
        student_map: (B, C, H, W), after the regressor; any floating dtype, computed in float32 at least.
        teacher_map: the same shape; no gradient reaches it.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: a map is not (B, C, H, W) floating or is empty, or the two disagree in shape or device.

    Reference:
        Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv 1412.6550.

    Example:
        >>> import torch
        >>> fitnet(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]]]))
        tensor(5.)
    """
    check_feature("student_map", student_map, dimensions=4, shape="(B, C, H, W)")
    check_feature("teacher_map", teacher_map, dimensions=4, shape="(B, C, H, W)")
    check_pair("student_map", student_map, "teacher_map", teacher_map)
    fix = "pass the student's map through a regressor first, as FitNet does"
    check_same_shape("student_map", student_map, "teacher_map", teacher_map, fix=fix)
    student, teacher = widen(student_map, teacher_map)
    return check_result(F.mse_loss(student, teacher), student_map=student_map, teacher_map=teacher_map)


class FitNet(nn.Module):
    """:func:`fitnet` at one level, with the regressor that brings the student's map to the teacher's shape.

    The regressor is a convolution and batch normalisation, then a ReLU where the teacher's example map has no
    negative value, because a ReLU cannot produce negative values. The convolution is 1x1, or, as published, 3x3
    with stride 2 where the student's map is exactly twice as high and wide, and a transposed 4x4 with stride 2
    where it is half. Any remaining difference in size is removed by average pooling.

    Args:
        layer: the level to compare, from 1 (shallowest); -1 is the deepest.

    Raises:
        ValueError: layer is 0 or no whole number.

    Example:
        >>> import torch
        >>> maps = [torch.rand(2, 4, 8, 8), torch.rand(2, 8, 4, 4)], [torch.rand(2, 6, 8, 8), torch.rand(2, 9, 4, 4)]
        >>> FitNet(layer=-1).connect(*maps)(*maps).shape
        torch.Size([])
    """

    regressor: nn.Sequential | None

    per_sample = True

    def __init__(self, layer: int = 2) -> None:
        super().__init__()
        if isinstance(layer, bool) or not isinstance(layer, int) or layer == 0:
            raise ValueError(f"layer is {layer}: count levels from 1 (shallowest), or from -1 (deepest)")
        self.layer = layer
        self.regressor = None

    def connect(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Self:
        """Build the regressor for the chosen level.

        Args:
            student_maps: an example of each level, (B, C, H, W).
            teacher_maps: as many; channels and sizes may differ.

        Raises:
            ValueError: the maps do not fit each other, or there is no such level.
        """
        student, teacher = self._level(student_maps, teacher_maps)
        self.regressor = map_regressor(student, teacher)
        return self

    def forward(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
        """Return :func:`fitnet` of one level of two tuples of maps.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        if self.regressor is None:
            raise not_connected(self, "student_maps, teacher_maps")
        student, teacher = self._level(student_maps, teacher_maps)
        predicted = self.regressor(cast_for(self.regressor, student))
        return fitnet(match_size(predicted, size_of(teacher)), teacher)

    def _level(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        check_maps(student_maps, teacher_maps)
        levels = len(student_maps)
        if abs(self.layer) > levels:
            raise ValueError(
                f"layer is {self.layer} but the networks have {levels} levels: choose 1 to {levels} or -1 to -{levels}"
            )
        index = self.layer - 1 if self.layer > 0 else self.layer
        return student_maps[index], teacher_maps[index]

    extra_repr = settings_repr
