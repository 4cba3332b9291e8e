"""Random numbers of the data path, each a function of (seed, epoch, purpose, sample id) only."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


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
    key = np.random.SeedSequence([seed, epoch, int(purpose)])
    return np.random.Generator(np.random.Philox(key)).random((rows, columns))
