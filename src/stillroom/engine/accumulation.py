"""Gradient accumulation: the batch of an optimizer step is computed in parts, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from stillroom.batch import Batch
from stillroom.data import BatchLoader
from stillroom.errors import InputError


@dataclass(frozen=True)
class Part:
    """One part of the batch of an optimizer step.

    Attributes:
        number: of the part in its epoch, from 0.
        images: number of images in the part, over all processes.
        step_images: number of images in the optimizer step, over all processes and parts.
        labelled: number of those that have a label; None where every training image has one.
        first_owner: rank of the process that holds the part's first image.
        last: whether the optimizer's step follows.
    """

    number: int
    images: int
    step_images: int
    labelled: int | None
    first_owner: int
    last: bool


class OptimizerSteps:
    """The optimizer steps of an epoch, each with one or more batches of a loader.

    An epoch's images and their order do not depend on the number of parts. The last step may have fewer parts than the
    others.

    Args:
        loader: its batches are the parts.
        accumulate: number of parts in an optimizer step, >= 1.
    """

    def __init__(self, loader: BatchLoader, accumulate: int) -> None:
        self.loader, self.accumulate = loader, accumulate

    def __len__(self) -> int:
        """Return the number of optimizer steps in an epoch, the same in every process."""
        return -(-len(self.loader) // self.accumulate)

    def images_in(self, step: int) -> int:
        """Return the number of images of an optimizer step over all processes."""
        return sum(map(self.loader.images_in, self._numbers(step)))

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Iterator[tuple[Part, Batch]]]:
        """Make the batches of one epoch.

        Args:
            epoch: >= 1.
            start_step: the first optimizer step, to resume an epoch.

        Yields:
            For each optimizer step its parts, each with this process's images. They must be consumed in order.
        """
        labels = self.loader.source.labels[self.loader.order(epoch)] if self.loader.source.unlabelled else None
        batches = self.loader.epoch(epoch, start_step * self.accumulate)
        for step in range(start_step, len(self)):
            yield zip(self._parts(step, labels), batches, strict=False)

    def _numbers(self, step: int) -> range:
        """The numbers of a step's parts in their epoch."""
        return range(step * self.accumulate, min((step + 1) * self.accumulate, len(self.loader)))

    def _parts(self, step: int, labels: Tensor | None) -> list[Part]:
        """The parts of a step; ``labels`` are those of the epoch's images in their order."""
        numbers, images = self._numbers(step), self.images_in(step)
        start = step * self.accumulate * self.loader.batch_size
        labelled = None if labels is None else int((labels[start : start + images] >= 0).sum())
        return [
            Part(
                number,
                self.loader.images_in(number),
                images,
                labelled,
                self.loader.first_owner(number),
                last=number == numbers[-1],
            )
            for number in numbers
        ]


def part_size(batch_size: int, accumulate: int, processes: int) -> int:
    """The number of images in a part of an optimizer step, over all processes.

    Args:
        batch_size: of an optimizer step, a multiple of ``accumulate``.
        accumulate: number of parts.
        processes: of the run.

    Raises:
        InputError: a part has fewer images than there are processes.
    """
    size = batch_size // accumulate
    if accumulate > 1 and size < processes:
        raise InputError(
            f"accumulate={accumulate}: a part of batch_size={batch_size} has {size} images for {processes} processes; "
            "lower accumulate, raise batch_size, or use fewer processes"
        )
    return size
