from __future__ import annotations

import pytest
import torch

from stillroom.teachers.bank_stripes import collect

BLOCK = 4


def loader_of(world_size, count, missing=()):
    """Stripes of rows that hold their own position, as ``collect`` loads them."""

    def load(stripe, block, rows):
        stored = torch.arange(stripe, count, world_size)[block * BLOCK : (block + 1) * BLOCK][rows]
        return None if (stripe, block) in missing or not len(stored) else stored[:, None].float()

    return load


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 40])
@pytest.mark.parametrize(("first", "step"), [(0, 1), (8, 1), (1, 2), (2, 3), (3, 5)])
def test_rows_come_in_the_order_of_their_positions(world_size, first, step):
    positions = torch.arange(first, 37, step)
    found = collect(positions, world_size, BLOCK, loader_of(world_size, 37))
    assert torch.equal(found[:, 0].long(), positions)


@pytest.mark.parametrize(("missing", "stored"), [(((0, 1),), 8), (((1, 1),), 9), (((1, 0), (0, 1)), 1)])
def test_rows_end_before_the_first_that_is_missing(missing, stored):
    found = collect(torch.arange(16), 2, BLOCK, loader_of(2, 16, missing))
    assert found[:, 0].tolist() == list(range(stored))


def test_nothing_is_found_where_the_first_row_is_missing():
    assert collect(torch.arange(16), 2, BLOCK, loader_of(2, 16, {(0, 0)})) is None


def test_an_epoch_that_was_stored_without_its_last_images_ends_early():
    assert len(collect(torch.arange(20), 3, BLOCK, loader_of(3, 17))) == 17
