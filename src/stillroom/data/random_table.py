"""Random numbers of the data path, each a function of (seed, epoch, purpose, sample id, occurrence) only."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

OCCURRENCE = 2**40  # sample ids are below it
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)  # of Philox 4x64-10 (Salmon et al., SC 2011)
_KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10


class Purpose(IntEnum):
    """What random numbers are used for. It is part of the key, so the tables are independent."""

    ORDER = 0
    AUGMENT = 1
    STRONG_AUGMENT = 2  # crop, flip and so on of the strong view
    STRONG = 3  # its operations and cut-out square
    JITTER = 4
    AUTO = 5  # TrivialAugment or RandAugment
    ERASE = 6
    STRONG_JITTER = 7
    STRONG_AUTO = 8
    STRONG_ERASE = 9
    MIX = 10  # mixup and CutMix
    CHOICE = 11  # images of an epoch with balanced sampling
    CLASS_CHOICE = 12  # classes that have one image more than others in such an epoch
    REGIONS = 13  # which anchors and proposals of an image a detector is trained on


def random_table(seed: int, epoch: int, purpose: Purpose, rows: int, columns: int) -> NDArray[np.float64]:
    """Draw numbers in [0, 1) of which row ``i`` depends on (seed, epoch, purpose, i) only.

    Rows are drawn in order, so a larger table starts with the rows of a smaller one.

    Args:
        seed: >= 0.
        epoch: >= 0.
        purpose: what the numbers are used for.
        rows: one more than the largest sample id.
        columns: must always be the same for one purpose.

    Returns:
        float64 array (rows, columns).
    """
    return np.random.Generator(_philox(seed, epoch, purpose)).random((rows, columns))


def sample_keys(ids: Tensor, occurrences: Tensor) -> Tensor:
    """The keys of images that occur several times in an epoch; that of the first occurrence is the id.

    Args:
        ids: int64 (n,), in [0, 2^40).
        occurrences: int64 (n,), from 0.

    Returns:
        int64 (n,), for :func:`random_rows`.
    """
    return ids + OCCURRENCE * occurrences


def random_rows(seed: int, epoch: int, purpose: Purpose, keys: Tensor, columns: int) -> NDArray[np.float64]:
    """Draw a row of numbers in [0, 1) for each image that is shown.

    A row depends on (seed, epoch, purpose, key) only. Those of first occurrences are rows of :func:`random_table`. The
    others are computed one by one, so that an image that occurs often needs no further tables.

    Args:
        seed: >= 0.
        epoch: >= 0.
        purpose: what the numbers are used for.
        keys: int64 (n,) on the CPU: sample ids, or :func:`sample_keys`.
        columns: must always be the same for one purpose.

    Returns:
        float64 array (n, columns), in the order of the keys.
    """
    occurrences, ids = (part.numpy() for part in (keys // OCCURRENCE, keys % OCCURRENCE))
    first = occurrences == 0
    table = random_table(seed, epoch, purpose, int(ids[first].max(initial=-1)) + 1, columns)
    if first.all():
        chosen: NDArray[np.float64] = table[ids]
        return chosen
    drawn = np.empty((len(ids), columns))
    drawn[first] = table[ids[first]]
    drawn[~first] = rows_at(seed, epoch, purpose, ids[~first], occurrences[~first], columns)
    return drawn


def rows_at(
    seed: int, epoch: int, purpose: Purpose, ids: NDArray[np.int64], occurrences: NDArray[np.int64], columns: int
) -> NDArray[np.float64]:
    """Compute single rows; those of occurrence 0 are rows of :func:`random_table`.

    The occurrence is the second word of Philox's counter, which numpy's generator leaves at 0.

    Args:
        seed: >= 0.
        epoch: >= 0.
        purpose: what the numbers are used for.
        ids: (n,), >= 0.
        occurrences: (n,), >= 0.
        columns: as for :func:`random_table`.
    """
    start = ids * columns
    blocks = start[:, None] // 4 + 1 + np.arange((columns + 6) // 4)  # numpy's counter starts at 1
    again = np.broadcast_to(occurrences[:, None], blocks.shape)
    key = _philox(seed, epoch, purpose).state["state"]["key"]
    raw = _philox_blocks(blocks.astype(np.uint64), again.astype(np.uint64), key).reshape(len(ids), -1)
    chosen = np.take_along_axis(raw, start[:, None] % 4 + np.arange(columns), axis=1)
    return (chosen >> np.uint64(11)).astype(np.float64) * 2.0**-53  # as numpy's Generator.random


def _philox(seed: int, epoch: int, purpose: Purpose) -> np.random.Philox:
    return np.random.Philox(np.random.SeedSequence([seed, epoch, int(purpose)]))


def _philox_blocks(
    first: NDArray[np.uint64], second: NDArray[np.uint64], key: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Philox 4x64-10 of the counters (first, second, 0, 0), any shape: the four outputs of each in a last dimension."""
    zero = np.zeros_like(first)
    words = (first, second, zero, zero)
    for number in range(_ROUNDS):
        keys = [np.uint64((int(word) + number * step) % 2**64) for word, step in zip(key, _KEY_STEPS, strict=True)]
        high_0, low_0 = _product(words[0], _MULTIPLIERS[0])
        high_1, low_1 = _product(words[2], _MULTIPLIERS[1])
        words = (high_1 ^ words[1] ^ keys[0], low_1, high_0 ^ words[3] ^ keys[1], low_0)
    return np.stack(words, axis=-1)


def _product(values: NDArray[np.uint64], factor: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The high and the low 64 bits of products of 64-bit numbers."""
    half, mask = np.uint64(32), np.uint64(2**32 - 1)
    factor_high, factor_low = np.uint64(factor >> 32), np.uint64(factor % 2**32)
    high, low = values >> half, values & mask
    cross = high * factor_low
    carry = (low * factor_low >> half) + (cross & mask) + low * factor_high
    return high * factor_high + (cross >> half) + (carry >> half), values * np.uint64(factor)
