"""The strong view of an image: two random operations and a cut-out square, drawn per (seed, epoch, sample id).

The operations, their ranges and the square are those of RandAugment as FixMatch uses it (Sohn et al., NeurIPS
2020, appendix), which MLKD (Jin et al., CVPR 2023) trains on. A batch is not walked through image by image:
all its images with the same operation are changed together. torchvision takes one strength per call, so where
strengths differ between images it supplies the far end (the grey image, the blurred one, ...) and only the
mixing is done here.

Importing this module imports torchvision's transforms, which is slow; nothing should do so before it has to.
"""

from __future__ import annotations

from collections.abc import Callable
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
    invert,
)

from stillroom.data.random_table import Purpose, random_table
from stillroom.errors import InputError

TURNS = 2  # operations an image goes through
_LARGEST_CUT = 0.5  # share of the width
_FILLS = {1: (128,), 3: (125, 123, 114)}  # channels -> colour of the cut-out square


@dataclass(frozen=True, slots=True)
class Operation:
    """One of the changes to draw from.

    Attributes:
        name: for people.
        low: least strength.
        high: largest strength.
        change: takes images, uint8 (n, C, H, W), and their strengths, float64 (n,) on the CPU; returns images.
    """

    name: str
    low: float
    high: float
    change: Callable[[Tensor, Tensor], Tensor]


def _send(values: Tensor, device: torch.device) -> Tensor:
    """Copy small tensors without waiting for the device; only CUDA is known to be done with the source by then."""
    return values.to(device, non_blocking=device.type == "cuda")


def _along(values: Tensor, images: Tensor) -> Tensor:
    """Bring one number an image next to the images."""
    return _send(values.float(), images.device).view(-1, 1, 1, 1)


def _mix(images: Tensor, strengths: Tensor, *, adjust: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Go from what ``adjust`` makes at strength 0 (0 of the image) to the image itself (strength 1)."""
    far = adjust(images, 0.0).float()
    # PIL cuts the mixture to whole numbers, too.
    return (far + _along(strengths, images) * (images.float() - far)).to(torch.uint8)


def _posterize(images: Tensor, bits: Tensor) -> Tensor:
    lost = 2 ** (8 - bits.floor())
    return images & _along(256 - lost, images).to(torch.uint8)


def _solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    return torch.where(images >= _along(thresholds, images), invert(images), images)


def _move(images: Tensor, matrices: Tensor) -> Tensor:
    """Show at each place what lies at matrix @ (x, y, 1), (n, 2, 3), in the nearest pixel; black outside.

    One gather for all images, whereas torchvision moves a whole batch by a single matrix. The matrices are made
    on the CPU and each step here rounds on its own, so every device picks the same pixels.
    """
    height, width = images.shape[2:]
    entries = _send(matrices.float(), images.device).flatten(1)
    a, b, c, d, e, f = entries[:, :, None, None].unbind(1)
    # Middles of the pixels, as PIL counts.
    x = torch.arange(width, device=images.device)[None, None, :] + 0.5
    y = torch.arange(height, device=images.device)[None, :, None] + 0.5
    column, row = (a * x + b * y + c).floor().long(), (d * x + e * y + f).floor().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    places = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).flatten(1)[:, None]
    moved = images.flatten(2).gather(2, places.expand(-1, images.shape[1], -1)).view_as(images)
    return moved * inside[:, None]


def _rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn counter-clockwise around the middle."""
    y, x = (side / 2 for side in images.shape[2:])
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    matrix = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y]
    return _move(images, torch.stack(matrix, dim=1).view(-1, 2, 3))


def _shear(images: Tensor, slopes: Tensor, *, axis: int) -> Tensor:
    """Slide each row (axis 0) or column (axis 1) by its distance from the top left corner times the slope."""
    matrices = torch.eye(2, 3, dtype=slopes.dtype).expand(len(slopes), -1, -1).clone()
    matrices[:, axis, 1 - axis] = slopes
    return _move(images, matrices)


def _translate(images: Tensor, shares: Tensor, *, axis: int) -> Tensor:
    """Move left (axis 0) by shares of the width, or up (axis 1) by shares of the height."""
    matrices = torch.eye(2, 3, dtype=shares.dtype).expand(len(shares), -1, -1).clone()
    matrices[:, axis, 2] = shares * images.shape[3 - axis]
    return _move(images, matrices)


# The order is part of what a seed means: an operation is drawn as a place in this list.
OPERATIONS = (
    Operation("autocontrast", 0, 1, lambda images, _: autocontrast(images)),
    Operation("brightness", 0.05, 0.95, partial(_mix, adjust=adjust_brightness)),
    Operation("colour", 0.05, 0.95, partial(_mix, adjust=adjust_saturation)),
    Operation("contrast", 0.05, 0.95, partial(_mix, adjust=adjust_contrast)),
    Operation("equalize", 0, 1, lambda images, _: equalize(images)),
    Operation("identity", 0, 1, lambda images, _: images),
    Operation("posterize", 4, 8, _posterize),
    Operation("rotate", -30, 30, _rotate),
    Operation("sharpness", 0.05, 0.95, partial(_mix, adjust=adjust_sharpness)),
    Operation("shear x", -0.3, 0.3, partial(_shear, axis=0)),
    Operation("shear y", -0.3, 0.3, partial(_shear, axis=1)),
    Operation("solarize", 0, 256, _solarize),
    Operation("translate x", -0.3, 0.3, partial(_translate, axis=0)),
    Operation("translate y", -0.3, 0.3, partial(_translate, axis=1)),
)


@dataclass(frozen=True, slots=True)
class StrongChoices:
    """What was drawn for each image; stays on the CPU, where images are sorted by operation.

    Attributes:
        operation: int64 (n, TURNS), places in ``OPERATIONS``.
        strength: float64 (n, TURNS), within the operation's range.
        box: int64 (n, 4), the cut-out square as top, left, bottom, right; may reach beyond the image.
    """

    operation: Tensor
    strength: Tensor
    box: Tensor

    def take(self, positions: Tensor) -> StrongChoices:
        """Return the choices at ``positions``, int64 (B,) on the CPU."""
        return StrongChoices(self.operation[positions], self.strength[positions], self.box[positions])


def draw_strong(seed: int, epoch: int, ids: Tensor, size: tuple[int, int]) -> StrongChoices:
    """Draw what the strong view of each image is in one epoch.

    Args:
        seed: >= 0.
        epoch: >= 0.
        ids: int64 (n,) on the CPU.
        size: height and width of the images.

    Returns:
        The choices for the ids, in their order.
    """
    height, width = size
    rows = int(ids.max()) + 1 if len(ids) else 0
    table = random_table(seed, epoch, Purpose.STRONG, rows, 2 * TURNS + 3)[ids.numpy()]
    operation = (table[:, :TURNS] * len(OPERATIONS)).astype(np.int64)
    low, high = (np.array([getattr(one, end) for one in OPERATIONS])[operation] for end in ("low", "high"))
    strength = low + table[:, TURNS : 2 * TURNS] * (high - low)
    draws = table[:, 2 * TURNS :].T
    side = np.floor(draws[0] * (int(width * _LARGEST_CUT) + 1))
    top, left = np.round(draws[1] * height - side / 2), np.round(draws[2] * width - side / 2)
    box = np.stack([top, left, top + side, left + side], axis=1).astype(np.int64)
    return StrongChoices(torch.from_numpy(operation), torch.from_numpy(strength), torch.from_numpy(box))


def check_channels(channels: int) -> None:
    """Refuse images that the operations are not defined for.

    Raises:
        InputError: neither grey nor RGB.
    """
    if channels not in _FILLS:
        raise InputError(f"strong is True for images with {channels} channels; strong views need 1 or 3")


def apply_strong(images: Tensor, choices: StrongChoices) -> Tensor:
    """Make the strong view of a batch.

    Args:
        images: tensor (B, C, H, W) with 1 or 3 channels and values in [0, 255]; floats are rounded first. Left as
            it is.
        choices: what was drawn for these images.

    Returns:
        uint8 tensor (B, C, H, W).
    """
    changed = images.round().to(torch.uint8) if images.is_floating_point() else images.clone()
    for turn in range(TURNS):
        drawn = choices.operation[:, turn]
        for number in sorted(set(drawn.tolist())):
            which = (drawn == number).nonzero()[:, 0]
            there = _send(which, images.device)
            strengths = choices.strength[which, turn]
            # These two copy whole images; changed[there] goes pixel by pixel and is slower.
            changed.index_copy_(0, there, OPERATIONS[number].change(changed.index_select(0, there), strengths))
    return _cut_out(changed, choices.box)


def _cut_out(images: Tensor, boxes: Tensor) -> Tensor:
    channels, height, width = images.shape[1:]
    top, left, bottom, right = _send(boxes, images.device)[:, :, None, None].unbind(1)
    row = torch.arange(height, device=images.device)[None, :, None]
    column = torch.arange(width, device=images.device)[None, None, :]
    covered = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    fill = _send(torch.tensor(_FILLS[channels], dtype=images.dtype), images.device)
    return torch.where(covered[:, None], fill.view(1, -1, 1, 1), images)
