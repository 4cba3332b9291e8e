"""WKD-F, Wasserstein distillation of features: means and deviations of the channels of a map, cell by cell."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_feature, check_finite, check_maps, check_pair, check_positive
from stillroom.losses.connectors import cast_for, check_whole, map_regressor, not_connected
from stillroom.losses.finite import check_result
from stillroom.losses.numerics import widen
from stillroom.losses.protocol import settings_repr

if TYPE_CHECKING:
    from collections.abc import Sequence


def cell_statistics(feature_map: Tensor, grid: int, epsilon: float) -> tuple[Tensor, Tensor]:
    """Compute the mean and the standard deviation of each channel in each cell of a grid.

    Cell i of n places covers those from ``floor(i n / grid)`` to ``ceil((i + 1) n / grid)``, so that cells overlap
    where the grid does not divide the size.

    Args:
        feature_map: (B, C, H, W), float32 or float64.
        grid: cells a side, at least 1.
        epsilon: added to the variance before the root, above 0.

    Returns:
        Two tensors (B, C, grid^2). The variance has the divisor n - 1; that of a single place is 0.

    Example:
        >>> mean, deviation = cell_statistics(torch.tensor([[[[1.0, 3.0], [1.0, 3.0]]]]), 1, 1e-5)
        >>> mean.item(), round(deviation.item(), 3)
        (2.0, 1.155)
    """
    batch, channels, height, width = feature_map.shape
    if height % grid == 0 and width % grid == 0:
        cells = feature_map.reshape(batch, channels, grid, height // grid, grid, width // grid)
        variance, mean = (part.flatten(2) for part in _var_mean(cells, (3, 5)))
    else:
        corners = itertools.product(_cells(height, grid), _cells(width, grid))
        found = [
            _var_mean(feature_map[:, :, top:bottom, left:right], (2, 3)) for (top, bottom), (left, right) in corners
        ]
        variance, mean = (torch.stack(part, 2) for part in zip(*found, strict=True))
    return mean, (variance + epsilon).sqrt()


def _var_mean(cells: Tensor, dims: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The variance over two dimensions, with the divisor n - 1 unless n is 1, and the mean."""
    alone = cells.shape[dims[0]] * cells.shape[dims[1]] == 1
    return torch.var_mean(cells, dims, correction=0 if alone else 1)


def _cells(size: int, grid: int) -> list[tuple[int, int]]:
    """Start and stop of each cell along one side."""
    return [(i * size // grid, -(-(i + 1) * size // grid)) for i in range(grid)]


def wkd_f(
    student_map: Tensor, teacher_map: Tensor, *, grid: int = 1, ratio: float = 4.0, epsilon: float = 1e-5
) -> Tensor:
    """Compute Wasserstein distillation's loss of feature maps.

    In each of grid x grid cells each channel of a map counts as a Gaussian. The squared Wasserstein distance of two
    such Gaussians is ``(m_s - m_t)^2 + (d_s - d_t)^2`` with the means m and standard deviations d of the two maps. With
    a weight for the means,

        WKD-F = 1/(B grid^2) * sum over samples, channels and cells of  ratio (m_s - m_t)^2 + (d_s - d_t)^2

    It is >= 0. Neither the cross-entropy with the labels nor the published decay of its weight is included.

    Args:
        student_map: (B, C, H, W), after the projector; any floating dtype, computed in float32 at least.
        teacher_map: (B, C, H', W'); no gradient reaches it.
        grid: cells a side, at least 1 and at most the smallest height or width.
        ratio: weight of the means against the deviations.
        epsilon: added to the variances, above 0.

    Returns:
        A scalar, float32 (float64 if a map is).

    Raises:
        ValueError: a map is not (B, C, H, W) floating or is empty, the two disagree in batch, channels or device; or
            grid, ratio or epsilon is out of range.
        NotFinite: the squares are beyond the dtype (CPU only).

    Reference:
        Lv, Yang and Li, "Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge Distillation",
        NeurIPS 2024, arXiv 2412.08139, section 3.2.

    Example:
        >>> student, teacher = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 3.0], [1.0, 3.0]]]])
        >>> wkd_f(student, teacher, ratio=1.0), wkd_f(student, teacher, ratio=1.0, grid=2)
        (tensor(5.3261), tensor(5.))
    """
    check_feature("student_map", student_map, dimensions=4, shape="(B, C, H, W)")
    check_feature("teacher_map", teacher_map, dimensions=4, shape="(B, C, H, W)")
    check_pair("student_map", student_map, "teacher_map", teacher_map)
    if student_map.shape[1] != teacher_map.shape[1]:
        raise ValueError(
            f"student_map has {student_map.shape[1]} channels but teacher_map has {teacher_map.shape[1]}: pass the "
            "student's map through a projector first, as WKDF does"
        )
    _check_settings(grid, ratio, epsilon)
    smallest = min(*student_map.shape[2:], *teacher_map.shape[2:])
    if grid > smallest:
        raise ValueError(f"grid is {grid} but a map has {smallest} places along a side: give at most {smallest}")
    student, teacher = (cell_statistics(each, grid, epsilon) for each in widen(student_map, teacher_map))
    means, deviations = ((s - t).square().sum() for s, t in zip(student, teacher, strict=True))
    loss = (ratio * means + deviations) / (len(student_map) * grid**2)
    return check_result(loss, student_map=student_map, teacher_map=teacher_map)


def _check_settings(grid: int, ratio: float, epsilon: float) -> None:
    check_whole(1, grid=grid)
    check_finite(ratio=ratio)
    check_positive(epsilon=epsilon)


class WKDF(nn.Module):
    """:func:`wkd_f` of the deepest maps, with the projector from the student's channels to the teacher's.

    The projector is a convolution, batch normalisation and a ReLU, see
    :func:`~stillroom.losses.connectors.map_regressor`. It is trained with the student and no part of it.

    Args:
        grid: cells a side, at least 1.
        ratio: weight of the means against the deviations.
        epsilon: added to the variances, above 0.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> maps = [torch.rand(2, 4, 8, 8), torch.rand(2, 8, 4, 4)], [torch.rand(2, 6, 8, 8), torch.rand(2, 9, 4, 4)]
        >>> WKDF(grid=2).connect(*maps)(*maps).shape
        torch.Size([])
    """

    projector: nn.Sequential | None

    per_sample = True

    def __init__(self, grid: int = 1, ratio: float = 4.0, epsilon: float = 1e-5) -> None:
        super().__init__()
        _check_settings(grid, ratio, epsilon)
        self.grid = grid
        self.ratio = ratio
        self.epsilon = epsilon
        self.projector = None

    def connect(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Self:
        """Build the projector for the deepest level.

        Args:
            student_maps: an example of each level, (B, C, H, W).
            teacher_maps: as many; channels and sizes may differ.

        Raises:
            ValueError: the maps do not fit each other.
        """
        check_maps(student_maps, teacher_maps)
        self.projector = map_regressor(student_maps[-1], teacher_maps[-1])
        return self

    def forward(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
        """Return :func:`wkd_f` of the deepest level of two tuples of maps.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        if self.projector is None:
            raise not_connected(self, "student_maps, teacher_maps")
        check_maps(student_maps, teacher_maps)
        projected = self.projector(cast_for(self.projector, student_maps[-1]))
        return wkd_f(projected, teacher_maps[-1], grid=self.grid, ratio=self.ratio, epsilon=self.epsilon)

    extra_repr = settings_repr
