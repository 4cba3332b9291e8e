"""Operations on images for augmentation: each image of a batch has its own operation and strength.

All images of a batch with the same operation are changed together. torchvision takes one strength per call. Where
strengths differ between images, torchvision computes the image at strength 0 (the grey one, the blurred one, ...) and
only the mixing is done here.

Import this module only where it is needed: it imports torchvision's transforms, which is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import invert, rgb_to_grayscale  # type: ignore[attr-defined]

from stillroom.data.box_mask import box_mask
from stillroom.errors import InputError


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that can be drawn.

    Attributes:
        name: for readers.
        low: smallest strength that is drawn.
        high: largest strength that is drawn.
        change: (images uint8 (n, C, H, W), strengths float64 (n,) on the CPU) -> images.
    """

    name: str
    low: float
    high: float
    change: Callable[[Tensor, Tensor], Tensor]


def send(values: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor to the device, without synchronising on CUDA."""
    return values.to(device, non_blocking=device.type == "cuda")


def _along(values: Tensor, images: Tensor) -> Tensor:
    """Reshape one number per image to (n, 1, 1, 1), on the device of the images."""
    return send(values.float(), images.device).view(-1, 1, 1, 1)


def mix(images: Tensor, strengths: Tensor, *, adjust: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Mix each image (strength 1) with the result of ``adjust`` at strength 0; above 1, away from it."""
    far = adjust(images, 0.0).float()
    # PIL truncates the mixture to integers, too.
    return (far + _along(strengths, images) * (images.float() - far)).clamp_(0, 255).to(torch.uint8)


def mean_grey(images: Tensor, _: float) -> Tensor:
    """Return the mean of each image's grey values, (n, 1, 1, 1): what torchvision's contrast mixes with."""
    grey = rgb_to_grayscale(images) if images.shape[1] == 3 else images
    return grey.float().mean(dim=(1, 2, 3), keepdim=True)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of each value; a fraction of a bit is dropped."""
    lost = 2 ** (8 - bits.floor())
    return images & _along(256 - lost, images).to(torch.uint8)


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Invert the values from a threshold on."""
    return torch.where(images >= _along(thresholds, images), invert(images), images)


def move_pixels(images: Tensor, matrices: Tensor) -> Tensor:
    """Apply affine transforms: pixel (x, y) is read at matrix @ (x, y, 1), nearest pixel, black outside.

    One gather for all images; torchvision applies one matrix to a whole batch. The matrices (n, 2, 3) are made on the
    CPU and each step rounds by itself, so every device picks the same pixels.
    """
    height, width = images.shape[2:]
    entries = send(matrices.float(), images.device).flatten(1)
    a, b, c, d, e, f = entries[:, :, None, None].unbind(1)
    # Pixel centres, as in PIL.
    x = torch.arange(width, device=images.device)[None, None, :] + 0.5
    y = torch.arange(height, device=images.device)[None, :, None] + 0.5
    column, row = (a * x + b * y + c).floor().long(), (d * x + e * y + f).floor().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    places = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).flatten(1)[:, None]
    moved = images.flatten(2).gather(2, places.expand(-1, images.shape[1], -1)).view_as(images)
    return moved * inside[:, None]


def rotate_images(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotate counter-clockwise around the centre."""
    y, x = (side / 2 for side in images.shape[2:])
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    matrix = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y]
    return move_pixels(images, torch.stack(matrix, dim=1).view(-1, 2, 3))


def shear(images: Tensor, slopes: Tensor, *, axis: int) -> Tensor:
    """Shift each row (axis 0) or column (axis 1) by its distance from the top left corner times the slope."""
    matrices = torch.eye(2, 3, dtype=slopes.dtype).expand(len(slopes), -1, -1).clone()
    matrices[:, axis, 1 - axis] = slopes
    return move_pixels(images, matrices)


def translate(images: Tensor, fractions: Tensor, *, axis: int) -> Tensor:
    """Move left (axis 0) by a fraction of the width, or up (axis 1) by a fraction of the height."""
    matrices = torch.eye(2, 3, dtype=fractions.dtype).expand(len(fractions), -1, -1).clone()
    matrices[:, axis, 2] = fractions * images.shape[3 - axis]
    return move_pixels(images, matrices)


@dataclass(frozen=True, slots=True)
class Turns:
    """The operations that each image goes through, on the CPU, where images are grouped by operation.

    Attributes:
        operation: int64 (n, turns), indices into a table of operations.
        strength: float64 (n, turns).
    """

    operation: Tensor
    strength: Tensor

    def take(self, positions: slice | Tensor) -> Turns:
        """Return those of the images at ``positions``, a slice or int64 (B,) on the CPU."""
        return Turns(self.operation[positions], self.strength[positions])


def apply_in_turn(images: Tensor, table: Sequence[Operation], turns: Turns) -> Tensor:
    """Change each image by its operations, one after the other.

    Args:
        images: tensor (B, C, H, W) with 1 or 3 channels and values in [0, 255]; floats are rounded first. Not
            changed.
        table: the operations.
        turns: of these images.

    Returns:
        uint8 tensor (B, C, H, W).
    """
    changed = images.round().to(torch.uint8) if images.is_floating_point() else images.clone()
    for turn in range(turns.operation.shape[1]):
        drawn = turns.operation[:, turn]
        for number in sorted(set(drawn.tolist())):
            which = (drawn == number).nonzero()[:, 0]
            there = send(which, images.device)
            # index_select and index_copy_ copy whole images; indexing copies pixel by pixel and is slower.
            part = table[number].change(changed.index_select(0, there), turns.strength[which, turn])
            changed.index_copy_(0, there, part)
    return changed


def cover(images: Tensor, boxes: Tensor, colour: Sequence[float]) -> Tensor:
    """Fill a box of each image with one colour.

    Args:
        images: tensor (B, C, H, W).
        boxes: int64 (B, 4) on the CPU, top, left, bottom and right; may reach beyond the image.
        colour: one value per channel.
    """
    covered = box_mask(send(boxes, images.device), *images.shape[2:])
    fill = send(torch.tensor(colour, dtype=images.dtype), images.device)
    return torch.where(covered, fill.view(1, -1, 1, 1), images)


def check_channels(channels: int, setting: str) -> None:
    """Refuse images with a number of channels that the operations do not support.

    Args:
        channels: of the images.
        setting: what needs the operations, such as "strong is True".

    Raises:
        InputError: the number is neither 1 nor 3.
    """
    if channels not in (1, 3):
        raise InputError(f"{setting} for images with {channels} channels; it needs 1 or 3")
