"""Bank stripes: rows of an epoch that were stored by another number of processes.

A run of W processes stores position ``p`` of the epoch's order in the stripe ``p % W``, as row ``p // W``. Each stripe
is cut into blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stillroom.teachers.bank_rows import join_rows

Load = Callable[[int, int, slice], Tensor | None]


def collect(positions: Tensor, world_size: int, block_rows: int, load: Load) -> Tensor | None:
    """The packed rows of positions, up to the first one that is not stored.

    Memory holds these rows twice for a moment.

    Args:
        positions: int64 (N,), increasing positions of an epoch's order.
        world_size: number of stripes.
        block_rows: rows of a complete block.
        load: called with stripe, block and a slice of the block's rows; returns these packed rows, fewer where the
            block is shorter, or None where it is not stored.

    Returns:
        Packed rows (n, ...) with n <= N; None if the first position is not stored.
    """
    stripes, rows = positions % world_size, positions // world_size
    blocks, end = rows // block_rows, len(positions)
    places, parts = [], []
    for stripe, block in sorted(set(zip(stripes.tolist(), blocks.tolist(), strict=True))):
        at = ((stripes == stripe) & (blocks == block)).nonzero().flatten()
        offsets = rows[at] - block * block_rows
        first = int(offsets[0])
        part = load(stripe, block, slice(first, int(offsets[-1]) + 1))
        stored = 0 if part is None else int((offsets - first < len(part)).sum())
        if stored < len(at):
            end = min(end, int(at[stored]))
        if end == 0:
            return None
        if part is not None and stored:
            places.append(at[:stored])
            parts.append(part[offsets[:stored] - first])
    return join_rows(parts)[torch.cat(places).argsort()[:end]]
