"""Strong augmentation: two random operations and a cut-out square per image, drawn per (seed, epoch, sample id).

The operations, their ranges and the square are those of RandAugment as FixMatch uses it (Sohn et al., NeurIPS
2020, appendix), which MLKD (Jin et al., CVPR 2023) trains on. All images of a batch with the same
operation are changed together. torchvision takes one strength per call. Where strengths differ between images,
torchvision computes the image at strength 0 (the grey one, the blurred one, ...) and only the mixing is done here.

Import this module only where it is needed: it imports torchvision's transforms, which is slow.
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
_LARGEST_CUT = 0.5  # fraction of the width
_FILLS = {1: (128,), 3: (125, 123, 114)}  # channels -> colour of the cut-out square


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that can be drawn.

    Attributes:
        name: for readers.
        low: smallest strength.
        high: largest strength.
        change: (images uint8 (n, C, H, W), strengths float64 (n,) on the CPU) -> images.
    """

    name: str
    low: float
    high: float
    change: Callable[[Tensor, Tensor], Tensor]


def _send(values: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor to the device, without synchronising on CUDA."""
    return values.to(device, non_blocking=device.type == "cuda")


def _along(values: Tensor, images: Tensor) -> Tensor:
    """Reshape one number per image to (n, 1, 1, 1), on the device of the images."""
    return _send(values.float(), images.device).view(-1, 1, 1, 1)


def _mix(images: Tensor, strengths: Tensor, *, adjust: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Interpolate between the result of ``adjust`` at strength 0 and the image itself (strength 1)."""
    far = adjust(images, 0.0).float()
    # PIL truncates the mixture to integers, too.
    return (far + _along(strengths, images) * (images.float() - far)).to(torch.uint8)


def _posterize(images: Tensor, bits: Tensor) -> Tensor:
    lost = 2 ** (8 - bits.floor())
    return images & _along(256 - lost, images).to(torch.uint8)


def _solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    return torch.where(images >= _along(thresholds, images), invert(images), images)


def _move(images: Tensor, matrices: Tensor) -> Tensor:
    """Apply affine transforms: pixel (x, y) is read at matrix @ (x, y, 1), nearest pixel, black outside.

    One gather for all images; torchvision applies one matrix to a whole batch. The matrices (n, 2, 3) are made on the
    CPU and each step rounds by itself, so every device picks the same pixels.
    """
    height, width = images.shape[2:]
    entries = _send(matrices.float(), images.device).flatten(1)
    a, b, c, d, e, f = entries[:, :, None, None].unbind(1)
    # Pixel centres, as in PIL.
    x = torch.arange(width, device=images.device)[None, None, :] + 0.5
    y = torch.arange(height, device=images.device)[None, :, None] + 0.5
    column, row = (a * x + b * y + c).floor().long(), (d * x + e * y + f).floor().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    places = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).flatten(1)[:, None]
    moved = images.flatten(2).gather(2, places.expand(-1, images.shape[1], -1)).view_as(images)
    return moved * inside[:, None]


def _rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotate counter-clockwise around the centre."""
    y, x = (side / 2 for side in images.shape[2:])
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    matrix = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y]
    return _move(images, torch.stack(matrix, dim=1).view(-1, 2, 3))


def _shear(images: Tensor, slopes: Tensor, *, axis: int) -> Tensor:
    """Shift each row (axis 0) or column (axis 1) by its distance from the top left corner times the slope."""
    matrices = torch.eye(2, 3, dtype=slopes.dtype).expand(len(slopes), -1, -1).clone()
    matrices[:, axis, 1 - axis] = slopes
    return _move(images, matrices)


def _translate(images: Tensor, fractions: Tensor, *, axis: int) -> Tensor:
    """Move left (axis 0) by a fraction of the width, or up (axis 1) by a fraction of the height."""
    matrices = torch.eye(2, 3, dtype=fractions.dtype).expand(len(fractions), -1, -1).clone()
    matrices[:, axis, 2] = fractions * images.shape[3 - axis]
    return _move(images, matrices)


# Keep the order: an operation is drawn as an index into this list, so a seed depends on it.
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
    """The random choices for each image, on the CPU, where images are grouped by operation.

    Attributes:
        operation: int64 (n, TURNS), indices into ``OPERATIONS``.
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
    """Draw the choices for the strong view of each image in one epoch.

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
    """Refuse images with a number of channels that the operations do not support.

    Raises:
        InputError: the number is neither 1 nor 3.
    """
    if channels not in _FILLS:
        raise InputError(f"strong is True for images with {channels} channels; strong views need 1 or 3")


def apply_strong(images: Tensor, choices: StrongChoices) -> Tensor:
    """Make the strong view of a batch.

    Args:
        images: tensor (B, C, H, W) with 1 or 3 channels and values in [0, 255]; floats are rounded first. Not
            changed.
        choices: the choices for these images.

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
            # index_select and index_copy_ copy whole images; indexing copies pixel by pixel and is slower.
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
