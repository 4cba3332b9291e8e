"""Load batches from images in memory: shuffled, augmented and normalised on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from stillroom.batch import Batch
from stillroom.data.augment import Augment, apply_augment, draw_choices
from stillroom.data.random_table import Purpose, random_table
from stillroom.errors import InputError
from stillroom.input_format import InputFormat, InputTransform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from stillroom.data.augment import Choices
    from stillroom.data.image_set import ImageSet


class MemoryLoader:
    """Loader for an image set in memory: uint8 on the device, augmented and normalised batch by batch.

    Order and augmentation depend on (seed, epoch, sample id) only. An image gets the same view for any batch size,
    number of processes, subset, or step at which an epoch is resumed.

    ``batch_size`` counts the images of all processes. Position ``p`` of an epoch's order belongs to process
    ``p % world_size``, so the steps of an epoch and the images of each step are the same for any number of processes,
    whether it divides the batch or not. A process without an image in the last batch gets an image of another process
    (``Batch.stand_in``). Without shuffling every image comes exactly once. With shuffling a last batch of one image is
    dropped, because batch norm cannot learn from one.

    Args:
        images: the set.
        batch_size: images per step over all processes; at least ``world_size``.
        input_format: how the trained model takes the images.
        augment: augmentation; None for none.
        strong: also make a second view of every image: ``augment`` drawn anew, then two random operations and a
            cut-out square (see ``stillroom.data.strong_augment``); for 1 or 3 channels.
        shuffle: a new order in every epoch; False keeps the set's order.
        seed: >= 0.
        device: where the set is stored and the batches are made.
        channels_last: memory format of the batches.
        drop_last: drop the last batch if it is not full.
        rank: this process, in [0, world_size).
        world_size: number of processes.

    Raises:
        InputError: an argument is outside its range, the set is empty, or it does not fit into the device's memory.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        batch_size: int,
        input_format: InputFormat,
        augment: Augment | None = None,
        strong: bool = False,
        shuffle: bool,
        seed: int = 0,
        device: torch.device | str = "cpu",
        channels_last: bool = False,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.augment = augment
        self.strong = strong
        self.shuffle = shuffle
        self.seed = seed
        self.device = torch.device(device)
        self.drop_last = drop_last
        self.rank, self.world_size = rank, world_size
        self._check(input_format)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._normalised = InputTransform(input_format, self.device, layout)
        self._images = self._on_device(images.images)
        self._labels, self._ids = images.labels.to(self.device), images.ids.to(self.device)

    def _check(self, input_format: InputFormat) -> None:
        channels = self.images.images.shape[1]
        if len(self.images) == 0:
            raise InputError("images is empty; give a set with at least one image")
        if not 0 <= self.rank < self.world_size:
            raise InputError(f"rank is {self.rank}; with world_size {self.world_size} give 0 and up")
        if self.batch_size < self.world_size:
            raise InputError(
                f"batch_size is {self.batch_size} with {self.world_size} processes; give at least {self.world_size}, "
                "an image for each process, or use fewer processes"
            )
        if len(input_format.mean) != channels:
            count = len(input_format.mean)
            raise InputError(f"mean and std have {count} values each; give {channels}, one a channel")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; give 0 or more")
        if self.steps_per_epoch == 0:
            raise InputError(f"batch_size is {self.batch_size}: no batch for {len(self.images)} images; lower it")
        if self.strong:
            from stillroom.data.strong_augment import check_channels  # here because it imports torchvision: slow

            check_channels(channels)

    def _on_device(self, images: Tensor) -> Tensor:
        """Copy the images to the device."""
        try:
            return images.to(self.device)
        except RuntimeError as error:  # torch.OutOfMemoryError, or another error on other devices
            if "out of memory" not in str(error):
                raise
            raise InputError(
                f"{len(images)} images of {images.shape[1]}x{images.shape[2]}x{images.shape[3]} take "
                f"{images.nbytes / 1e9:.1f} GB, and {self.device} has no room for them: give a smaller image_size, "
                "fewer images (per_class, first_classes), or accelerator=cpu"
            ) from error

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches in an epoch, the same in every process."""
        steps, rest = divmod(len(self.images), self.batch_size)
        least = 2 if self.shuffle else 1
        return steps + (rest >= least and not self.drop_last)

    def __len__(self) -> int:
        """Return the number of batches in an epoch, the same in every process."""
        return self.steps_per_epoch

    def images_in(self, step: int) -> int:
        """Return the number of images of a step over all processes."""
        return min(self.batch_size, len(self.images) - step * self.batch_size)

    def own_before(self, step: int) -> int:
        """Return the number of this process's images in the steps before one."""
        return len(range(self.rank, step * self.batch_size, self.world_size))

    def first_owner(self, step: int) -> int:
        """Return the rank of the process that has the first image of a step; the next rank has the next image."""
        return step * self.batch_size % self.world_size

    def order(self, epoch: int) -> Tensor:
        """Return the order of an epoch: indices into the set, int64 (N,) on the CPU, the same in all processes."""
        if not self.shuffle:
            return torch.arange(len(self.images))
        ids = self.images.ids.numpy()
        keys = random_table(self.seed, epoch, Purpose.ORDER, int(ids.max()) + 1, 1)[ids, 0]
        return torch.from_numpy(np.argsort(keys, kind="stable"))

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Make the batches of one epoch.

        Args:
            epoch: >= 0; the same number gives the same batches.
            start_step: the first step, to resume an epoch.

        Yields:
            Batches with this process's float32 images (about B / world_size, C, H, W) on the device.
        """
        order = self.order(epoch)
        order_there = order.to(self.device)
        choices = self._choices(epoch, Purpose.AUGMENT)
        strong_view = self._strong_view(epoch) if self.strong else None
        for step in range(start_step, self.steps_per_epoch):
            own, stand_in = self._own(step)
            places = order_there[own]
            images = self._images.index_select(0, places)
            pixels = self._augmented(images, choices, places)
            strong = None if strong_view is None else strong_view(images, places, order[own])
            yield Batch(
                images=self._normalised(pixels),
                labels=self._labels[places],
                ids=self._ids[places],
                strong=None if strong is None else self._normalised(strong),
                stand_in=stand_in,
                pixels=pixels,
                strong_pixels=strong,
                epoch=epoch,
                start=self.own_before(step),
            )

    def _own(self, step: int) -> tuple[slice, bool]:
        """The positions of a step for this process, or one as a stand-in, and whether it is a stand-in."""
        start = step * self.batch_size
        stop = min(start + self.batch_size, len(self.images))
        first = start + (self.rank - start) % self.world_size
        return (slice(first, stop, self.world_size), False) if first < stop else (slice(start, start + 1), True)

    def _choices(self, epoch: int, purpose: Purpose) -> Choices | None:
        if self.augment is None:
            return None
        height, width = self.images.images.shape[2:]
        choices = draw_choices(self.augment, self.seed, epoch, self.images.ids, (height, width), purpose)
        return choices.to(self.device)

    def _augmented(self, images: Tensor, choices: Choices | None, places: Tensor) -> Tensor:
        if self.augment is None or choices is None:
            return images
        return apply_augment(images, self.augment, choices.take(places))

    def _strong_view(self, epoch: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Return a function (images, indices on the device, indices on the CPU) -> strong view."""
        from stillroom.data.strong_augment import apply_strong, draw_strong

        height, width = self.images.images.shape[2:]
        choices = self._choices(epoch, Purpose.STRONG_AUGMENT)
        drawn = draw_strong(self.seed, epoch, self.images.ids, (height, width))

        def view(images: Tensor, places: Tensor, places_here: Tensor) -> Tensor:
            return apply_strong(self._augmented(images, choices, places), drawn.take(places_here))

        return view
