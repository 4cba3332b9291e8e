"""Strong augmentation: two random operations and a cut-out square per image, drawn per (seed, epoch, sample id).

The operations, their ranges and the square are those of RandAugment as FixMatch uses it (Sohn et al., NeurIPS
2020, appendix), which MLKD (Jin et al., CVPR 2023) trains on.

Import this module only where it is needed: it imports torchvision's transforms, which is slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import (  # type: ignore[attr-defined]
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    adjust_sharpness,
    autocontrast,
    equalize,
)

from stillroom.data.image_operations import (
    Operation,
    Turns,
    apply_in_turn,
    cover,
    mix,
    posterize,
    rotate_images,
    shear,
    solarize,
    translate,
)
from stillroom.data.random_table import Purpose, random_rows

TURNS = 2  # operations an image goes through
_LARGEST_CUT = 0.5  # fraction of the width
_FILLS = {1: (128,), 3: (125, 123, 114)}  # channels -> colour of the cut-out square


# Keep the order: an operation is drawn as an index into this list, so a seed depends on it.
OPERATIONS = (
    Operation("autocontrast", 0, 1, lambda images, _: autocontrast(images)),
    Operation("brightness", 0.05, 0.95, partial(mix, adjust=adjust_brightness)),
    Operation("colour", 0.05, 0.95, partial(mix, adjust=adjust_saturation)),
    Operation("contrast", 0.05, 0.95, partial(mix, adjust=adjust_contrast)),
    Operation("equalize", 0, 1, lambda images, _: equalize(images)),
    Operation("identity", 0, 1, lambda images, _: images),
    Operation("posterize", 4, 8, posterize),
    Operation("rotate", -30, 30, rotate_images),
    Operation("sharpness", 0.05, 0.95, partial(mix, adjust=adjust_sharpness)),
    Operation("shear x", -0.3, 0.3, partial(shear, axis=0)),
    Operation("shear y", -0.3, 0.3, partial(shear, axis=1)),
    Operation("solarize", 0, 256, solarize),
    Operation("translate x", -0.3, 0.3, partial(translate, axis=0)),
    Operation("translate y", -0.3, 0.3, partial(translate, axis=1)),
)


@dataclass(frozen=True, slots=True)
class StrongChoices:
    """The random choices for each image, on the CPU, where images are grouped by operation.

    Attributes:
        operation: int64 (n, TURNS), indices into ``OPERATIONS``.
        strength: float64 (n, TURNS), within the operation's range.
        box: int64 (n, 4), the cut-out square as top, left, bottom, right; may reach beyond the image.
    """

    operation: Tensor
    strength: Tensor
    box: Tensor

    def take(self, positions: slice | Tensor) -> StrongChoices:
        """Return the choices at ``positions``, a slice or int64 (B,) on the CPU."""
        return StrongChoices(self.operation[positions], self.strength[positions], self.box[positions])


def draw_strong(seed: int, epoch: int, ids: Tensor, size: tuple[int, int]) -> StrongChoices:
    """Draw the choices for the strong view of each image in one epoch.

    Args:
        seed: >= 0.
        epoch: >= 0.
        ids: int64 (n,) on the CPU: sample ids, or keys of occurrences.
        size: height and width of the images.

    Returns:
        The choices for the ids, in their order.
    """
    height, width = size
    table = random_rows(seed, epoch, Purpose.STRONG, ids, 2 * TURNS + 3)
    operation = (table[:, :TURNS] * len(OPERATIONS)).astype(np.int64)
    low, high = (np.array([getattr(one, end) for one in OPERATIONS])[operation] for end in ("low", "high"))
    strength = low + table[:, TURNS : 2 * TURNS] * (high - low)
    draws = table[:, 2 * TURNS :].T
    side = np.floor(draws[0] * (int(width * _LARGEST_CUT) + 1))
    top, left = np.round(draws[1] * height - side / 2), np.round(draws[2] * width - side / 2)
    box = np.stack([top, left, top + side, left + side], axis=1).astype(np.int64)
    return StrongChoices(torch.from_numpy(operation), torch.from_numpy(strength), torch.from_numpy(box))


def apply_strong(images: Tensor, choices: StrongChoices) -> Tensor:
    """Make the strong view of a batch.

    Args:
        images: tensor (B, C, H, W) with 1 or 3 channels and values in [0, 255]; floats are rounded first. Not
            changed.
        choices: the choices for these images.

    Returns:
        uint8 tensor (B, C, H, W).
    """
    changed = apply_in_turn(images, OPERATIONS, Turns(choices.operation, choices.strength))
    return cover(changed, choices.box, _FILLS[images.shape[1]])
