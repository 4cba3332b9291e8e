"""Colour jitter: brightness, contrast and saturation by random factors in random order, as torchvision's ColorJitter.

Import this module only where it is needed: it imports torchvision's transforms, which is slow.
"""

from __future__ import annotations

from functools import partial
from itertools import permutations

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import adjust_brightness, adjust_saturation  # type: ignore[attr-defined]

from stillroom.data.image_operations import Operation, Turns, mean_grey, mix
from stillroom.data.random_table import Purpose, random_rows

# Keep the order: a seed depends on it. The factor of an operation is drawn from 1 - strength to 1 + strength.
JITTER = (
    Operation("brightness", 0, 2, partial(mix, adjust=adjust_brightness)),
    Operation("contrast", 0, 2, partial(mix, adjust=mean_grey)),
    Operation("saturation", 0, 2, partial(mix, adjust=adjust_saturation)),
)
_ORDERS = np.array(list(permutations(range(len(JITTER)))))


def draw_jitter(strength: float, seed: int, epoch: int, ids: Tensor, purpose: Purpose = Purpose.JITTER) -> Turns:
    """Draw the order and the factors for each image in one epoch.

    Args:
        strength: in [0, 1].
        seed: >= 0.
        epoch: >= 0.
        ids: int64 (n,) on the CPU: sample ids, or keys of occurrences.
        purpose: which view of the images they are for.

    Returns:
        Three turns for each id, indices into ``JITTER``.
    """
    table = random_rows(seed, epoch, purpose, ids, len(JITTER) + 1)
    order = _ORDERS[(table[:, 0] * len(_ORDERS)).astype(np.int64)]
    factors = 1 + (2 * table[:, 1:] - 1) * strength
    return Turns(torch.from_numpy(order), torch.from_numpy(np.take_along_axis(factors, order, axis=1)))
