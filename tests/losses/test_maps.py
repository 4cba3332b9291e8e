"""Maps of different sizes, averaged to a common one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stillroom.losses.maps import pool_to, same_size
from tests.losses.draw import gradient_of


def numbered(height: int, width: int) -> Tensor:
    return torch.arange(2.0 * 3 * height * width, dtype=torch.float64).reshape(2, 3, height, width)


def averaged(x: Tensor, height: int, width: int) -> Tensor:
    """Cell i covers rows floor(i H / h) to ceil((i + 1) H / h), and columns likewise."""
    found = torch.empty(*x.shape[:2], height, width, dtype=x.dtype)
    for i in range(height):
        for j in range(width):
            top, bottom = i * x.shape[2] // height, -(-(i + 1) * x.shape[2] // height)
            left, right = j * x.shape[3] // width, -(-(j + 1) * x.shape[3] // width)
            found[:, :, i, j] = x[:, :, top:bottom, left:right].mean((2, 3))
    return found


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 2), (1, 1), (5, 3), (4, 3)])
def test_every_cell_is_the_mean_of_the_cells_it_covers(height: int, width: int) -> None:
    torch.testing.assert_close(pool_to(numbered(8, 8), height, width), averaged(numbered(8, 8), height, width))


def test_a_map_of_the_size_stays_itself() -> None:
    x = numbered(4, 4)
    assert pool_to(x, 4, 4) is x


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [((8, 8), (4, 4), (4, 4)), ((4, 8), (8, 4), (4, 4)), ((3, 3), (3, 3), (3, 3)), ((7, 7), (4, 5), (4, 5))],
)
def test_each_side_shrinks_to_the_smaller(
    first: tuple[int, int], second: tuple[int, int], common: tuple[int, int]
) -> None:
    pooled = same_size(numbered(*first), numbered(*second))
    for x, size in zip(pooled, (first, second), strict=True):
        torch.testing.assert_close(x, averaged(numbered(*size), *common))


@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_the_gradient_is_spread_evenly_over_a_cell(size: tuple[int, int]) -> None:
    x = numbered(8, 8).requires_grad_()
    expected = gradient_of(averaged(x, *size).square().sum(), x)
    torch.testing.assert_close(gradient_of(pool_to(x, *size).square().sum(), x), expected)
