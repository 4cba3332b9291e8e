"""TrivialAugmentWide and RandAugment with torchvision's operators and ranges, drawn per (seed, epoch, sample id).

Sources: Müller and Hutter, ICCV 2021; Cubuk et al., NeurIPS 2020; torchvision.transforms.v2. The operators are those on
uint8 tensors, at the nearest pixel and black outside.

Import this module only where it is needed: it imports torchvision's transforms, which is slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2.functional import (  # type: ignore[attr-defined]
    adjust_brightness,
    adjust_saturation,
    adjust_sharpness,
    autocontrast,
    equalize,
)

from stillroom.data.image_operations import (
    Operation,
    Turns,
    mean_grey,
    mix,
    move_pixels,
    posterize,
    rotate_images,
    shear,
    solarize,
)
from stillroom.data.random_table import Purpose, random_rows

LEVELS = 31  # of the strengths


@dataclass(frozen=True, slots=True)
class Policy:
    """Ranges of one of the two methods, as torchvision has them.

    Attributes:
        shear: largest slope.
        translate: largest shift, in pixels or as a fraction of the side.
        translate_in_pixels: which of the two.
        rotate: largest angle in degrees.
        enhance: largest distance of the factor of brightness, colour, contrast and sharpness from 1.
        lost_bits: most bits that posterize drops.
    """

    shear: float
    translate: float
    translate_in_pixels: bool
    rotate: float
    enhance: float
    lost_bits: int


POLICIES = {
    "trivial": Policy(0.99, 32.0, translate_in_pixels=True, rotate=135.0, enhance=0.99, lost_bits=6),
    "rand": Policy(0.3, 150 / 331, translate_in_pixels=False, rotate=30.0, enhance=0.9, lost_bits=4),
}


def _translate(images: Tensor, pixels: Tensor, *, axis: int) -> Tensor:
    """Move right (axis 0) or down (axis 1) by whole pixels, rounded towards 0."""
    matrices = torch.eye(2, 3, dtype=pixels.dtype).expand(len(pixels), -1, -1).clone()
    matrices[:, axis, 2] = -pixels.trunc()
    return move_pixels(images, matrices)


def _unchanged(images: Tensor, _: Tensor) -> Tensor:
    return images


# Keep the order: an operation is drawn as an index into this list. Strengths come from a policy.
OPERATORS = (
    Operation("identity", 0, 0, _unchanged),
    Operation("shear x", -1, 1, partial(shear, axis=0)),
    Operation("shear y", -1, 1, partial(shear, axis=1)),
    Operation("translate x", -1, 1, partial(_translate, axis=0)),
    Operation("translate y", -1, 1, partial(_translate, axis=1)),
    Operation("rotate", -1, 1, rotate_images),
    Operation("brightness", -1, 1, partial(mix, adjust=adjust_brightness)),
    Operation("colour", -1, 1, partial(mix, adjust=adjust_saturation)),
    Operation("contrast", -1, 1, partial(mix, adjust=mean_grey)),
    Operation("sharpness", -1, 1, partial(mix, adjust=adjust_sharpness)),
    Operation("posterize", 0, 1, posterize),
    Operation("solarize", 0, 1, solarize),
    Operation("autocontrast", 0, 0, lambda images, _: autocontrast(images)),
    Operation("equalize", 0, 0, lambda images, _: equalize(images)),
)


def strengths_of(policy: Policy, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the strength of each operator at each level, without sign and offset: (operators, LEVELS).

    Args:
        policy: the ranges.
        size: height and width of the images.
    """
    height, width = size
    sides = (1, 1) if policy.translate_in_pixels else (width, height)
    along = np.linspace(0, 1, LEVELS)
    bits = 8 - np.round(np.arange(LEVELS) / ((LEVELS - 1) / policy.lost_bits))
    none = np.zeros(LEVELS)
    shears, enhances = [policy.shear * along] * 2, [policy.enhance * along] * 4
    moves = [policy.translate * side * along for side in sides]
    return np.stack([none, *shears, *moves, policy.rotate * along, *enhances, bits, 255 * (1 - along), none, none])


def draw_auto(
    policy: Policy, seed: int, epoch: int, ids: Tensor, size: tuple[int, int],
    purpose: Purpose = Purpose.AUTO, *, turns: int = 1, level: int | None = None,
) -> Turns:  # fmt: skip
    """Draw operators, levels and signs for each image in one epoch.

    Args:
        policy: one of ``POLICIES``.
        seed: >= 0.
        epoch: >= 0.
        ids: int64 (n,) on the CPU: sample ids, or keys of occurrences.
        size: height and width of the images.
        purpose: which view of the images they are for.
        turns: operators that an image goes through, >= 1.
        level: in [0, LEVELS); None draws it for each turn.

    Returns:
        The turns of each id, indices into ``OPERATORS``.
    """
    table = random_rows(seed, epoch, purpose, ids, 3 * turns).reshape(len(ids), turns, 3)
    operator = (table[:, :, 0] * len(OPERATORS)).astype(np.int64)
    levels = (table[:, :, 1] * LEVELS).astype(np.int64) if level is None else np.full(operator.shape, level)
    strength = strengths_of(policy, size)[operator, levels]
    signed = np.array([operation.low < 0 for operation in OPERATORS])[operator]
    strength = np.where(signed & (table[:, :, 2] < 0.5), -strength, strength)
    enhances = ("brightness", "colour", "contrast", "sharpness")
    offset = np.array([float(operation.name in enhances) for operation in OPERATORS])[operator]
    return Turns(torch.from_numpy(operator), torch.from_numpy(strength + offset))
