"""The view of one epoch: augmentation of one epoch's images, applied batch by batch on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stillroom.data.augment import Augment, apply_augment, draw_choices
from stillroom.data.random_table import Purpose

# Purposes of the random numbers: geometry, colour jitter, TrivialAugment or RandAugment, erasing.
_WEAK = (Purpose.AUGMENT, Purpose.JITTER, Purpose.AUTO, Purpose.ERASE)
_STRONG = (Purpose.STRONG_AUGMENT, Purpose.STRONG_JITTER, Purpose.STRONG_AUTO, Purpose.STRONG_ERASE)


class EpochView:
    """One view of each image in one epoch, in the published order: crop, flip, jitter, auto-augment, erasing.

    Args:
        augment: the settings.
        seed: >= 0.
        epoch: >= 0.
        ids: int64 (n,) on the CPU: the sample ids, or the keys of occurrences
            (:func:`stillroom.data.random_table.sample_keys`), a row for each image that is shown.
        size: height and width of the images.
        mean: of each channel on [0, 1], the colour of erased rectangles.
        device: of the images.
        strong: draw anew, for the second view of each image.
    """

    def __init__(
        self, augment: Augment, seed: int, epoch: int, ids: Tensor, size: tuple[int, int], *,
        mean: Sequence[float], device: torch.device | str = "cpu", strong: bool = False,
    ) -> None:  # fmt: skip
        geometry, jitter, auto, erasing = _STRONG if strong else _WEAK
        self._augment, self._mean = augment, mean
        self._choices = draw_choices(augment, seed, epoch, ids, size, geometry).to(torch.device(device))
        self._jitter = self._auto = self._boxes = None
        if augment.colour_jitter:
            from stillroom.data.colour_jitter import draw_jitter

            self._jitter = draw_jitter(augment.colour_jitter, seed, epoch, ids, jitter)
        if augment.auto_augment != "none":
            from stillroom.data.auto_augment import POLICIES, draw_auto

            fixed = {"turns": augment.rand_ops, "level": augment.rand_magnitude}
            policy = POLICIES[augment.auto_augment]
            self._auto = draw_auto(
                policy, seed, epoch, ids, size, auto, **(fixed if augment.auto_augment == "rand" else {})
            )
        if augment.erase:
            from stillroom.data.random_erasing import draw_erasing

            self._boxes = draw_erasing(augment.erase, seed, epoch, ids, size, erasing)

    def __call__(self, images: Tensor, there: slice | Tensor, here: slice | Tensor) -> Tensor:
        """Augment a batch.

        Args:
            images: uint8 tensor (B, C, H, W) on the device.
            there: int64 (B,) on the device, or a slice: the indices of the images among the ids.
            here: the same on the CPU.

        Returns:
            Tensor (B, C, H, W) with values in [0, 255]. float32 where images are rotated or cropped here and their
            colours stay, otherwise uint8.
        """
        pixels = apply_augment(images, self._augment, self._choices.take(there))
        if self._jitter is not None:
            from stillroom.data.colour_jitter import JITTER
            from stillroom.data.image_operations import apply_in_turn

            pixels = apply_in_turn(pixels, JITTER, self._jitter.take(here))
        if self._auto is not None:
            from stillroom.data.auto_augment import OPERATORS
            from stillroom.data.image_operations import apply_in_turn

            pixels = apply_in_turn(pixels, OPERATORS, self._auto.take(here))
        if self._boxes is not None:
            from stillroom.data.random_erasing import erase

            pixels = erase(pixels, self._boxes[here], self._mean)
        return pixels
