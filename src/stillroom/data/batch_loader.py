"""Batch loader: the steps of an epoch, their images and the part of each process; for images of any kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Required, TypedDict

import torch
from torch import Tensor

from stillroom.data.epoch_order import EpochOrder, balanced_order, shuffled_order, source_order
from stillroom.errors import InputError

if TYPE_CHECKING:
    from stillroom.batch import Batch
    from stillroom.data.augment import Augment
    from stillroom.data.source import Source
    from stillroom.input_format import InputFormat


class LoaderOptions(TypedDict, total=False):
    """The options of every loader, as :class:`stillroom.data.Loader` describes them."""

    batch_size: Required[int]
    input_format: Required[InputFormat]
    augment: Augment | None
    strong: bool
    shuffle: Required[bool]
    balanced: bool
    seed: int
    device: torch.device | str
    channels_last: bool
    drop_last: bool
    repeat_views: int | None
    rank: int
    world_size: int
    workers: int


class BatchLoader(ABC):
    """Loader of a source: which images come in which step, and which of them belong to this process.

    :meth:`stillroom.data.source.Source.loader` gives the loader for a source. Its options are those of
    :class:`stillroom.data.Loader`.

    Raises:
        InputError: an option is outside its range, or the source is empty.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        input_format: InputFormat,
        strong: bool,
        shuffle: bool,
        balanced: bool,
        seed: int,
        device: torch.device | str,
        drop_last: bool,
        repeat_views: int | None,
        rank: int,
        world_size: int,
    ) -> None:
        self.source = source
        self.batch_size = batch_size
        self.strong = strong
        self.shuffle, self.balanced = shuffle, balanced
        self.seed = seed
        self.device = torch.device(device)
        self.drop_last = drop_last
        self.repeat_views = repeat_views
        self.rank, self.world_size = rank, world_size
        self._check(input_format)

    def _check(self, input_format: InputFormat) -> None:
        channels = self.source.shape[0]
        if len(self.source) == 0:
            raise InputError("source is empty; give one with at least one image")
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
        if self.balanced and (not self.shuffle or self.source.unlabelled == len(self.source)):
            raise InputError("balanced is True; it needs shuffle=True and images with labels")
        if self.repeat_views is not None and self.repeat_views < 1:
            raise InputError(f"repeat_views is {self.repeat_views}; give 1 or more, or None")
        if self.steps_per_epoch == 0:
            raise InputError(f"batch_size is {self.batch_size}: no batch for {len(self.source)} images; lower it")

    @abstractmethod
    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Make the batches of one epoch, with this process's images.

        Args:
            epoch: the same number gives the same batches. ``Batch.epoch`` is its :meth:`view_epoch`. Below 0 only
                without shuffling and augmentation.
            start_step: the first step, to resume an epoch; the images of earlier steps are not read.

        Raises:
            InputError: an image cannot be read.
        """

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches in an epoch, the same in every process."""
        steps, rest = divmod(len(self.source), self.batch_size)
        least = 2 if self.shuffle else 1
        return steps + (rest >= least and not self.drop_last)

    def __len__(self) -> int:
        """Return the number of batches in an epoch, the same in every process."""
        return self.steps_per_epoch

    def images_in(self, step: int) -> int:
        """Return the number of images of a step over all processes."""
        return min(self.batch_size, len(self.source) - step * self.batch_size)

    def own_before(self, step: int) -> int:
        """Return the number of this process's images in the steps before one."""
        return len(range(self.rank, step * self.batch_size, self.world_size))

    def first_owner(self, step: int) -> int:
        """Return the rank of the process that has the first image of a step; the next rank has the next image."""
        return step * self.batch_size % self.world_size

    def view_epoch(self, epoch: int) -> int:
        """Return the epoch whose order and augmentation an epoch has: itself, unless views are repeated."""
        return epoch if self.repeat_views is None or epoch < 1 else (epoch - 1) % self.repeat_views + 1

    def order(self, epoch: int) -> Tensor:
        """Return the order of an epoch: indices into the set, int64 (N,) on the CPU, the same in all processes."""
        return self._order(self.view_epoch(epoch)).places

    def main_labels(self, epoch: int) -> Tensor:
        """Return ``Batch.main_labels`` of all images of an epoch in its order, int64 (N,) on the CPU."""
        return self.source.labels[self.order(epoch)]

    def _order(self, epoch: int) -> EpochOrder:
        source = self.source
        if not self.shuffle:
            return source_order(source.ids)
        if self.balanced:
            return balanced_order(source.labels, source.ids, self.seed, epoch)
        return shuffled_order(source.ids, self.seed, epoch)

    def _positions(self, step: int) -> slice:
        """The positions of a step in the epoch's order, of all processes."""
        start = step * self.batch_size
        return slice(start, min(start + self.batch_size, len(self.source)))

    def _own(self, step: int) -> tuple[slice, bool]:
        """The positions of a step for this process, or one as a stand-in, and whether it is a stand-in."""
        whole = self._positions(step)
        first = whole.start + (self.rank - whole.start) % self.world_size
        if first < whole.stop:
            return slice(first, whole.stop, self.world_size), False
        return slice(whole.start, whole.start + 1), True
