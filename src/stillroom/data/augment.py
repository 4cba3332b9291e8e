"""Settings of the augmentation; and padded crop, flip, rotation and resized crop of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stillroom.data.random_table import Purpose, random_rows
from stillroom.errors import InputError

RATIO = (3 / 4, 4 / 3)  # width / height of a resized crop, as in torchvision


@dataclass(frozen=True, slots=True)
class Augment:
    """Settings of the augmentation.

    It is applied in this order: resized crop, rotation, padded crop, flip, colours, erasing, mixing of two images.

    Attributes:
        pad: >= 0; pixels of black border; a window of the image's own size is cropped from the padded image.
        flip: mirror half of the images left to right.
        rotate: in [0, 180]; largest rotation in degrees in either direction, bilinear, black outside.
        min_scale: in (0, 1]; smallest area of a resized crop as a fraction of the image; 1 is off.
        colour_jitter: in [0, 1]; brightness, contrast and saturation are multiplied by factors from 1 - this to
            1 + this, in random order; 0 is off.
        auto_augment: "trivial" for TrivialAugmentWide, "rand" for RandAugment, or "none".
        rand_ops: >= 1; operations of RandAugment on an image.
        rand_magnitude: in [0, 30]; their strength.
        erase: in [0, 1]; probability that a random rectangle is filled with the mean colour; 0 is off.
        mixup: >= 0; images are mixed in fractions drawn from Beta(mixup, mixup); 0 is off.
        cutmix: >= 0; a box of another image is pasted in, whose area is drawn from Beta(cutmix, cutmix); 0 is off. With
            mixup, one of the two is drawn for each image.
        mix_probability: in (0, 1]; probability that an image is mixed, where mixup or cutmix is on.

    Raises:
        InputError: a value outside its range.
    """

    pad: int = 4
    flip: bool = True
    rotate: float = 0.0
    min_scale: float = 1.0
    colour_jitter: float = 0.0
    auto_augment: Literal["none", "trivial", "rand"] = "none"
    rand_ops: int = 2
    rand_magnitude: int = 9
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise InputError(f"pad is {self.pad}; give 0 (off) or more pixels")
        if not 0 <= self.rotate <= 180:
            raise InputError(f"rotate is {self.rotate}; give 0 (off) to 180 degrees")
        if not 0 < self.min_scale <= 1:
            raise InputError(f"min_scale is {self.min_scale}; give a fraction above 0 and up to 1 (off)")
        if self.auto_augment not in ("none", "trivial", "rand"):
            raise InputError(f"auto_augment is {self.auto_augment!r}; give none, trivial or rand")
        if self.rand_ops < 1:
            raise InputError(f"rand_ops is {self.rand_ops}; give 1 or more")
        if not 0 <= self.rand_magnitude <= 30:
            raise InputError(f"rand_magnitude is {self.rand_magnitude}; give 0 to 30")
        for name, value in (("colour_jitter", self.colour_jitter), ("erase", self.erase)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}; give 0 (off) to 1")
        for name, value in (("mixup", self.mixup), ("cutmix", self.cutmix)):
            if not 0 <= value < math.inf:
                raise InputError(f"{name} is {value}; give 0 (off) or the alpha of a Beta distribution, such as 0.8")
        if not 0 < self.mix_probability <= 1:
            raise InputError(f"mix_probability is {self.mix_probability}; give a number above 0 and up to 1")

    @property
    def resamples(self) -> bool:
        """Whether images are interpolated, not only cropped and mirrored."""
        return self.rotate > 0 or self.min_scale < 1

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with others."""
        return self.mixup > 0 or self.cutmix > 0


@dataclass(frozen=True, slots=True)
class Choices:
    """The random choices of crop, flip and rotation for each image.

    Attributes:
        top: int64 (n,), first row of the padded crop in [0, 2 * pad].
        left: int64 (n,), its first column.
        mirror: bool (n,).
        angle: float32 (n,), radians, counter-clockwise.
        box: float32 (n, 4), the resized crop as top, left, height, width in whole pixels.
    """

    top: Tensor
    left: Tensor
    mirror: Tensor
    angle: Tensor
    box: Tensor

    def to(self, device: torch.device) -> Choices:
        """Return the choices on another device."""
        return Choices(*(getattr(self, name).to(device) for name in self.__slots__))

    def take(self, positions: slice | Tensor) -> Choices:
        """Return the choices at ``positions``, a slice or int64 (B,)."""
        return Choices(*(getattr(self, name)[positions] for name in self.__slots__))


def draw_choices(
    augment: Augment, seed: int, epoch: int, ids: Tensor, size: tuple[int, int], purpose: Purpose = Purpose.AUGMENT
) -> Choices:
    """Draw the random choices for each image in one epoch.

    A change that is off still uses up its random numbers, so switching one on does not alter the others.

    Args:
        augment: the settings.
        seed: >= 0.
        epoch: >= 0.
        ids: int64 (n,) on the CPU: sample ids, or keys of occurrences.
        size: height and width of the images.
        purpose: which view of the images the choices are for.

    Returns:
        The choices for the ids, in their order, on the CPU.
    """
    table = random_rows(seed, epoch, purpose, ids, 8).T
    window = 2 * augment.pad + 1
    return Choices(
        top=torch.from_numpy((table[0] * window).astype(np.int64)),
        left=torch.from_numpy((table[1] * window).astype(np.int64)),
        mirror=torch.from_numpy((table[2] < 0.5) & augment.flip),
        angle=torch.from_numpy(np.deg2rad((2 * table[3] - 1) * augment.rotate).astype(np.float32)),
        box=torch.from_numpy(crop_boxes(augment.min_scale, table[4:8], size)),
    )


def crop_draws(seed: int, epoch: int, ids: Tensor, purpose: Purpose) -> NDArray[np.float64]:
    """The random numbers in [0, 1) from which each image's resized crop follows, (n, 4).

    Args:
        seed: >= 0.
        epoch: >= 0.
        ids: int64 (n,) on the CPU: sample ids, or keys of occurrences.
        purpose: which view of the images they are for.
    """
    return random_rows(seed, epoch, purpose, ids, 8)[:, 4:8]


def crop_boxes(min_scale: float, draws: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return resized crops as top, left, height and width in whole pixels, (n, 4).

    Only aspect ratios that fit are drawn, so no crop is rejected.

    Args:
        min_scale: in (0, 1]; smallest area as a fraction of the image.
        draws: (4, n) in [0, 1).
        size: height and width of the images.
    """
    height, width = size
    area = min_scale + draws[0] * (1 - min_scale)
    low = np.log(np.maximum(RATIO[0], area * width / height))
    high = np.log(np.minimum(RATIO[1], width / (height * area)))
    ratio = np.exp(low + draws[1] * (np.maximum(high, low) - low))
    if min_scale == 1:
        ratio[:] = width / height
    box_height = np.clip(np.round(np.sqrt(area * height * width / ratio)), 1, height)
    box_width = np.clip(np.round(np.sqrt(area * height * width * ratio)), 1, width)
    top = np.floor(draws[2] * (height - box_height + 1))
    left = np.floor(draws[3] * (width - box_width + 1))
    return np.stack([top, left, box_height, box_width], axis=1).astype(np.float32)


def apply_augment(images: Tensor, augment: Augment, choices: Choices) -> Tensor:
    """Crop, rotate and mirror a batch; :class:`stillroom.data.epoch_view.EpochView` applies all settings.

    Args:
        images: uint8 tensor (B, C, H, W).
        augment: the settings.
        choices: the choices for these images, on the same device.

    Returns:
        Tensor (B, C, H, W) with values in [0, 255]: uint8 where images are only cropped and mirrored, otherwise
        float32.
    """
    if augment.resamples:
        return _resample(images.float(), augment, choices)
    if augment.flip and not augment.pad and images.device.type == "cpu":
        return _mirror(images, choices.mirror)
    if augment.pad or augment.flip:
        return _cut(images, augment.pad, choices)
    return images


def _mirror(images: Tensor, mirror: Tensor) -> Tensor:
    """Mirror some images one by one, the fastest way on a CPU; the same result as :func:`_cut`, in the same layout."""
    changed = images.clone()
    for place in mirror.nonzero()[:, 0].tolist():
        changed[place : place + 1] = images[place : place + 1].flip(3)
    return changed


def _cut(images: Tensor, pad: int, choices: Choices) -> Tensor:
    """Crop and mirror in one gather: the fastest way tried that gives the same result on every device."""
    batch, channels, height, width = images.shape
    padded = F.pad(images, (pad, pad, pad, pad)).flatten(2)
    column = torch.arange(width, device=images.device)
    row = torch.arange(height, device=images.device)
    columns = torch.where(choices.mirror[:, None], width - 1 - column, column) + choices.left[:, None]
    rows = (row + choices.top[:, None]) * (width + 2 * pad)
    places = (rows[:, :, None] + columns[:, None, :]).view(batch, 1, height * width)
    return padded.gather(2, places.expand(-1, channels, -1)).view(batch, channels, height, width)


def _resample(images: Tensor, augment: Augment, choices: Choices) -> Tensor:
    """Trace each output pixel back through flip, padded crop, rotation and resized crop, and sample once."""
    _, _, height, width = images.shape
    x = torch.arange(width, device=images.device, dtype=images.dtype)[None, None, :]
    y = torch.arange(height, device=images.device, dtype=images.dtype)[None, :, None]
    x = torch.where(choices.mirror[:, None, None], width - 1 - x, x)
    x = x + (choices.left[:, None, None] - augment.pad - (width - 1) / 2)
    y = y + (choices.top[:, None, None] - augment.pad - (height - 1) / 2)
    cos, sin = choices.angle.cos()[:, None, None], choices.angle.sin()[:, None, None]
    x, y = x * cos - y * sin + (width - 1) / 2, x * sin + y * cos + (height - 1) / 2
    # Outside the image, pixels fade to black over one pixel, as in bilinear sampling of a black border.
    inside = _coverage(x, width) * _coverage(y, height)
    top, left, box_height, box_width = (edge[:, None, None] for edge in choices.box.unbind(1))
    # Inside the crop the border pixels repeat, as when a crop is cut first and resized afterwards.
    x = ((x + 0.5) * box_width / width - 0.5).clamp(min=0).minimum(box_width - 1) + left
    y = ((y + 0.5) * box_height / height - 0.5).clamp(min=0).minimum(box_height - 1) + top
    grid = torch.stack([(x + 0.5) * (2 / width) - 1, (y + 0.5) * (2 / height) - 1], dim=-1)
    sampled = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return sampled.mul_(inside[:, None])


def _coverage(places: Tensor, length: int) -> Tensor:
    outside = torch.maximum(-places, places - (length - 1)).clamp_(min=0)
    return (1 - outside).clamp_(min=0)
