"""Mixup and CutMix: each image of an epoch is mixed with its neighbour in the epoch's order.

Position p is mixed with position p XOR 1. A mixed image is therefore a function of (seed, epoch, order) for any batch
size, number of processes, or step at which an epoch is resumed. Its neighbour is shown in its own view.

Sources: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; Yun et al., "CutMix: Regularization
Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019. Fraction and box are drawn for each image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillroom.data.augment import Augment
from stillroom.data.box_mask import box_mask
from stillroom.data.random_table import Purpose, random_rows


@dataclass(frozen=True, slots=True)
class Mixes:
    """How the images of an epoch are mixed, one row for each position.

    Attributes:
        partner: int64 (N,) on the CPU, the position of the second image; its own for an image that is not mixed.
        fraction: float32 (N,), the fraction of the own image, in [0, 1]; 1 for an image that is not mixed.
        weight: float32 (N,), the factor on the own pixels outside the box.
        boxes: int32 (N, 4), top, left, bottom and right of the box of the second image (CutMix); empty otherwise.
        floats: whether pixels become floating numbers.
    """

    partner: Tensor
    fraction: Tensor
    weight: Tensor
    boxes: Tensor
    floats: bool

    def to(self, device: torch.device) -> Mixes:
        """Return the numbers that are needed with the pixels on another device."""
        fraction, weight, boxes = (value.to(device) for value in (self.fraction, self.weight, self.boxes))
        return Mixes(self.partner, fraction, weight, boxes, self.floats)

    def reads(self, own: slice) -> tuple[slice | Tensor, Tensor]:
        """Return the positions to read for a batch, and where the second images are among them.

        Args:
            own: the positions of the batch.

        Returns:
            The positions: those of the batch, followed by the second images that are not in it. And int64 (B,) on the
            CPU: the index of each image's second image among these positions.
        """
        positions = torch.arange(own.start, own.stop, own.step or 1)
        partner, count = self.partner[own], len(positions)
        ahead = partner - own.start
        index = ahead.div(own.step or 1, rounding_mode="floor")
        inside = (ahead % (own.step or 1) == 0) & (index >= 0) & (index < count)
        second = torch.where(inside, index, count - 1 + (~inside).cumsum(0))
        return own if bool(inside.all()) else torch.cat([positions, partner[~inside]]), second

    def apply(self, pixels: Tensor, own: slice, second: Tensor) -> Tensor:
        """Mix the images of a batch.

        Args:
            pixels: (n, C, H, W) with values in [0, 255], the views of the positions to read.
            own: the positions of the batch.
            second: int64 (B,) on the device, from :meth:`reads`.

        Returns:
            (B, C, H, W), float32 where an image of the run may be a mixup, otherwise as ``pixels``.
        """
        first, other = pixels[: len(second)], pixels.index_select(0, second)
        mixed = torch.where(box_mask(self.boxes[own], *pixels.shape[2:]), other, first)
        if not self.floats:
            return mixed
        weight = self.weight[own].view(-1, 1, 1, 1)
        # Each operation rounds by itself, so that an image does not depend on the batch that it is in.
        return mixed.float() * weight + other.float() * (1 - weight)


def draw_mixes(augment: Augment, seed: int, epoch: int, keys: Tensor, size: tuple[int, int]) -> Mixes:
    """Draw how each image of an epoch is mixed.

    The numbers of an image depend on (seed, epoch, key) only.

    Args:
        augment: the settings; ``augment.mixes`` is True.
        seed: >= 0.
        epoch: >= 0.
        keys: int64 (N,) on the CPU, the keys of the images in the order of the epoch.
        size: height and width of the images.
    """
    table = random_rows(seed, epoch, Purpose.MIX, keys, 6).T
    position = np.arange(len(keys))
    partner = np.where((position ^ 1) < len(keys), position ^ 1, position)
    both = augment.mixup > 0 and augment.cutmix > 0
    cut = table[1] < 0.5 if both else np.full(len(keys), augment.cutmix > 0)
    fraction = symmetric_beta(np.where(cut, augment.cutmix, augment.mixup), table[2], table[3])
    boxes = np.where(cut[:, None], _boxes(fraction, table[4:], size), 0)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    fraction = np.where(cut, 1 - area / (size[0] * size[1]), fraction)  # of the box inside the image, as published
    single = (table[0] >= augment.mix_probability) | (partner == position) | (fraction == 1)
    fraction[single], boxes[single], partner[single] = 1, 0, position[single]
    return Mixes(
        torch.from_numpy(partner),
        torch.from_numpy(fraction.astype(np.float32)),
        torch.from_numpy(np.where(cut, 1, fraction).astype(np.float32)),
        torch.from_numpy(boxes.astype(np.int32)),
        augment.mixup > 0,
    )


def symmetric_beta(
    alpha: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Turn pairs of uniform numbers into numbers with the distribution Beta(alpha, alpha).

    T = sqrt(2 alpha (u^(-1/alpha) - 1)) cos(2 pi v) has Student's t distribution with 2 alpha degrees of freedom
    (Bailey, Mathematics of Computation 62, 1994), and 1/2 + T / (2 sqrt(2 alpha + T^2)) is Beta(alpha, alpha).

    Args:
        alpha: (n,), > 0.
        first: (n,), u in [0, 1).
        second: (n,), v in [0, 1).
    """
    cosine = np.cos(2 * np.pi * second)
    with np.errstate(divide="ignore", over="ignore"):  # u^(-1/alpha) may be infinite: the result is then 0 or 1
        square = (first ** (-1 / alpha) - 1) * cosine**2
        found: NDArray[np.float64] = 0.5 + 0.5 * np.sign(cosine) / np.sqrt(1 + 1 / square)
    return found


def _boxes(fraction: NDArray[np.float64], centres: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.int64]:
    """CutMix's boxes (n, 4): their sides are the fraction sqrt(1 - fraction) of the image's, cut at its border."""
    edges = []
    for length, drawn in zip(size, centres, strict=True):
        side = np.floor(length * np.sqrt(1 - fraction))
        centre = np.floor(drawn * length)
        low = centre - side // 2
        edges.append((np.clip(low, 0, length), np.clip(low + side, 0, length)))
    (top, bottom), (left, right) = edges
    return np.stack([top, left, bottom, right], axis=1).astype(np.int64)
