"""Loader: batches of images of one size, shuffled, augmented and normalised on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillroom.batch import Batch, Mixture
from stillroom.data.augment import Augment, crop_draws
from stillroom.data.batch_loader import BatchLoader
from stillroom.data.epoch_order import EpochOrder
from stillroom.data.epoch_view import EpochView
from stillroom.data.image_feed import Request
from stillroom.data.mixing import Mixes, draw_mixes
from stillroom.data.random_table import Purpose
from stillroom.input_format import InputFormat, InputTransform

if TYPE_CHECKING:
    from stillroom.data.fixed_size_source import FixedSizeSource

View = Callable[[Tensor, slice | Tensor, slice | Tensor], Tensor]


class Loader(BatchLoader):
    """Loader of a source: uint8 images on the device, augmented and normalised batch by batch.

    Order and augmentation depend on (seed, epoch, sample id) only. An image gets the same view for any batch size,
    number of processes or workers, subset, or step at which an epoch is resumed. Where images are mixed, the second
    image is the neighbour in the order of the whole epoch, so that only a subset changes it.

    ``batch_size`` counts the images of all processes. Position ``p`` of an epoch's order belongs to process
    ``p % world_size``, so the steps of an epoch and the images of each step are the same for any number of processes,
    whether it divides the batch or not. A process without an image in the last batch gets an image of another process
    (``Batch.stand_in``). Without shuffling every image comes exactly once. With shuffling a last batch of one image is
    dropped, because batch norm cannot learn from one.

    Args:
        source: the images.
        batch_size: images per step over all processes; at least ``world_size``.
        input_format: how the trained model takes the images.
        augment: augmentation; None for none.
        strong: also make a second view of every image: ``augment`` drawn anew, then two random operations and a
            cut-out square (see ``stillroom.data.strong_augment``); for 1 or 3 channels.
        shuffle: a new order in every epoch; False keeps the source's order.
        balanced: with ``shuffle``, show every class equally often in each epoch
            (:func:`stillroom.data.epoch_order.balanced_order`).
        seed: >= 0.
        device: where the batches are made.
        channels_last: memory format of the batches.
        drop_last: drop the last batch if it is not full.
        repeat_views: after this many epochs their order and augmentation come again; None for new ones in every epoch.
        rank: this process, in [0, world_size).
        world_size: number of processes.
        workers: processes that decode images of files ahead; 0 decodes in this process, when a batch is due.

    Raises:
        InputError: an argument is outside its range, the source is empty, or there is too little memory.
    """

    source: FixedSizeSource

    def __init__(
        self,
        source: FixedSizeSource,
        *,
        batch_size: int,
        input_format: InputFormat,
        augment: Augment | None = None,
        strong: bool = False,
        shuffle: bool,
        balanced: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
        channels_last: bool = False,
        drop_last: bool = False,
        repeat_views: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
    ) -> None:
        super().__init__(
            source, batch_size=batch_size, input_format=input_format, strong=strong, shuffle=shuffle, balanced=balanced,
            seed=seed, device=device, drop_last=drop_last, repeat_views=repeat_views, rank=rank, world_size=world_size,
        )  # fmt: skip
        # A random crop of whole images is made where they are decoded; the rest is done batch by batch.
        self._crops_whole = source.crops_whole and augment is not None and augment.min_scale < 1
        self.augment = replace(augment, min_scale=1.0) if augment is not None and self._crops_whole else augment
        self._mean = input_format.mean
        self._check_operations(source.shape[0])
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._normalised = InputTransform(input_format, self.device, layout)
        self._feed = source.feed(augment, self.device, workers)
        self._labels, self._ids = source.labels.to(self.device), source.ids.to(self.device)

    def _check_operations(self, channels: int) -> None:
        augment = self.augment or Augment()
        operations = {
            "strong is True": self.strong,
            f"colour_jitter is {augment.colour_jitter}": augment.colour_jitter > 0,
            f"auto_augment is {augment.auto_augment}": augment.auto_augment != "none",
        }
        for setting, on in operations.items():
            if on:
                from stillroom.data.image_operations import check_channels  # here because it imports torchvision: slow

                check_channels(channels, setting)

    def main_labels(self, epoch: int) -> Tensor:
        """Return ``Batch.main_labels`` of all images of an epoch in its order, int64 (N,) on the CPU."""
        order = self._order(self.view_epoch(epoch))
        mixes = self._mixes(self.view_epoch(epoch), order)
        places = order.places
        if mixes is not None:
            places = places.where(mixes.fraction >= 0.5, places[mixes.partner])
        return self.source.labels[places]

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Make the batches of one epoch.

        Args:
            epoch: the same number gives the same batches. ``Batch.epoch`` is its :meth:`view_epoch`. Below 0 only
                without shuffling and augmentation.
            start_step: the first step, to resume an epoch; the images of earlier steps are not read.

        Yields:
            Batches with this process's float32 images (about B / world_size, C, H, W) on the device.

        Raises:
            InputError: an image cannot be read.
        """
        epoch = self.view_epoch(epoch)
        order = self._order(epoch)
        places_there = order.places.to(self.device)
        steps = range(start_step, self.steps_per_epoch)
        mixes = self._mixes(epoch, order)
        mixes_there = None if mixes is None else mixes.to(self.device)
        weak, strong = self._view(epoch, order, strong=False), self._strong_view(epoch, order) if self.strong else None
        views = self._feed.batches(self._requests(epoch, steps, order, places_there, mixes))
        for step, images in zip(steps, views, strict=True):
            own, stand_in = self._own(step)
            places, mixture = places_there[own], None
            here, second = (own, None) if mixes is None else mixes.reads(own)
            there = here if isinstance(here, slice) else here.to(self.device)
            pixels = weak(images[0], there, here)
            strong_pixels = None if strong is None else strong(images[-1], there, here)
            if mixes_there is not None and second is not None:
                second = second.to(self.device)
                pixels = mixes_there.apply(pixels, own, second)
                strong_pixels = None if strong_pixels is None else mixes_there.apply(strong_pixels, own, second)
                mixture = Mixture(self._labels[places_there[there][second]], mixes_there.fraction[own])
            yield Batch(
                images=self._normalised(pixels),
                labels=self._labels[places],
                ids=self._ids[places],
                strong=None if strong_pixels is None else self._normalised(strong_pixels),
                stand_in=stand_in,
                pixels=pixels,
                strong_pixels=strong_pixels,
                epoch=epoch,
                start=self.own_before(step),
                mixture=mixture,
            )

    def _mixes(self, epoch: int, order: EpochOrder) -> Mixes | None:
        if self.augment is None or not self.augment.mixes:
            return None
        _, height, width = self.source.shape
        return draw_mixes(self.augment, self.seed, epoch, order.keys, (height, width))

    def _requests(
        self, epoch: int, steps: range, order: EpochOrder, places_there: Tensor, mixes: Mixes | None
    ) -> Iterator[Request]:
        """What the feed has to read for each step."""
        draws = self._crop_draws(epoch, order)
        for step in steps:
            own, _ = self._own(step)
            read = own if mixes is None else mixes.reads(own)[0]
            there = read if isinstance(read, slice) else read.to(self.device)
            chosen = None if draws is None else draws[:, read if isinstance(read, slice) else read.numpy()]
            yield Request(order.places[read], places_there[there], chosen)

    def _crop_draws(self, epoch: int, order: EpochOrder) -> NDArray[np.float64] | None:
        """The random numbers of the crops of whole images, (views, N, 4); None where there are none."""
        if not self._crops_whole:
            return None
        purposes = (Purpose.AUGMENT, Purpose.STRONG_AUGMENT) if self.strong else (Purpose.AUGMENT,)
        return np.stack([crop_draws(self.seed, epoch, order.keys, purpose) for purpose in purposes])

    def _view(self, epoch: int, order: EpochOrder, *, strong: bool) -> View:
        """Return a function (images, positions on the device, positions on the CPU) -> augmented images."""
        if self.augment is None:
            return lambda images, *_: images
        _, height, width = self.source.shape
        return EpochView(
            self.augment, self.seed, epoch, order.keys, (height, width), mean=self._mean, device=self.device,
            strong=strong,
        )  # fmt: skip

    def _strong_view(self, epoch: int, order: EpochOrder) -> View:
        """Return a function (images, positions on the device, positions on the CPU) -> strong view."""
        from stillroom.data.strong_augment import apply_strong, draw_strong

        _, height, width = self.source.shape
        view = self._view(epoch, order, strong=True)
        drawn = draw_strong(self.seed, epoch, order.keys, (height, width))
        return lambda images, there, here: apply_strong(view(images, there, here), drawn.take(here))
