"""Boxed loader: batches of images of any size with the boxes of their objects, resized, mirrored and padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stillroom.batch import Batch
from stillroom.boxes import ImageBoxes
from stillroom.data.augment import Augment, draw_choices
from stillroom.data.batch_loader import BatchLoader
from stillroom.data.boxed_view import Size, clear_padding, padded_size, resized_size, view_boxes
from stillroom.data.decoding_workers import StoreDecoder, check_shared_memory, decoded
from stillroom.data.framing import decode_resized
from stillroom.errors import InputError
from stillroom.input_format import InputFormat, InputTransform

if TYPE_CHECKING:
    from stillroom.data.boxed_source import BoxedSource
    from stillroom.data.epoch_order import EpochOrder

_OFF = Augment(pad=0, flip=False)
# Settings of an augmentation that is off have no effect.
_REFUSED = ("pad", "rotate", "min_scale", "colour_jitter", "auto_augment", "erase", "mixup", "cutmix")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The images of one batch, as a worker needs them.

    Attributes:
        places: indices into the store.
        own_sizes: height and width of each upright image.
        sizes: height and width of each resized image.
        mirror: whether each is mirrored.
        padded: height and width of the batch.
    """

    places: Sequence[int]
    own_sizes: Sequence[Size]
    sizes: Sequence[Size]
    mirror: Sequence[bool]
    padded: Size


class BoxedDecoder(StoreDecoder):
    """Decodes images of a store, each resized, and puts them into one padded batch."""

    def decode(self, wanted: _Wanted) -> Tensor:
        """Decode the images of a batch: uint8 (n, 3, H, W), its channels last in memory, padded with zeros.

        Raises:
            InputError: an image cannot be read, or its size has changed; the message names it.
        """
        batch = self.room((len(wanted.places), *wanted.padded, 3))
        rows = zip(wanted.places, wanted.own_sizes, wanted.sizes, wanted.mirror, strict=True)
        for out, (place, own, (height, width), mirror) in zip(batch.numpy(), rows, strict=True):
            try:
                pixels = decode_resized(self.store[place], own, (height, width))
            except OSError as error:
                raise self.unreadable(place, error) from None
            except ValueError as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(
                    f"{self.name(place)} has {error}, its size when its boxes were read; restore the file, then the "
                    "same command continues, or start the run anew"
                ) from None
            out[:height, :width] = pixels[:, ::-1] if mirror else pixels
            out[height:] = 0
            out[:height, width:] = 0
        return batch.permute(0, 3, 1, 2)


class BoxedLoader(BatchLoader):
    """Loader of images with boxes.

    Every image is resized as torchvision's detectors resize it: the shorter side to ``image_size`` of the source, the
    longer one at most to ``max_size``. With ``augment.flip`` half of the images are mirrored. ``Batch.targets`` has an
    :class:`stillroom.boxes.ImageBoxes` for each image, in pixels of ``Batch.images``.

    Order and views depend on (seed, epoch, sample id) only. Each image is at the upper left; the rest is zero, after
    normalisation too. Height and width of a batch are those of the largest image of the step in any process, rounded
    up to a multiple of 32. So a batch does not depend on the number of processes or workers, nor on the step at which
    an epoch is resumed.

    The arguments are those of :class:`stillroom.data.Loader`.

    Raises:
        InputError: an argument is outside its range or not available for images with boxes.
    """

    source: BoxedSource

    def __init__(
        self,
        source: BoxedSource,
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
        _refuse("strong", strong, off=False)
        _refuse("balanced", balanced, off=False)
        refuse_augment(augment or _OFF)
        _refuse_size(input_format)
        super().__init__(
            source, batch_size=batch_size, input_format=input_format, strong=strong, shuffle=shuffle, balanced=balanced,
            seed=seed, device=device, drop_last=drop_last, repeat_views=repeat_views, rank=rank, world_size=world_size,
        )  # fmt: skip
        self.augment = augment
        self._workers = workers
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._normalised = InputTransform(input_format, self.device, layout)
        self._decoder = BoxedDecoder(source.store, source.names)
        sides = source.image_size, source.max_size
        sizes = [resized_size((height, width), *sides) for height, width in source.sizes.tolist()]
        self._sizes = torch.tensor(sizes, dtype=torch.int64)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Make the batches of one epoch, with this process's images.

        Args:
            epoch: the same number gives the same batches. ``Batch.epoch`` is its :meth:`view_epoch`. Below 0 only
                without shuffling and augmentation.
            start_step: the first step, to resume an epoch; the images of earlier steps are not read.

        Yields:
            Batches with float32 images (about B / world_size, 3, H, W) and their objects on the device; H and W differ
            between batches.

        Raises:
            InputError: an image cannot be read, or there is too little shared memory.
            WorkerDied: a worker was killed.
        """
        epoch = self.view_epoch(epoch)
        order, mirror = self._order(epoch), self._mirror(epoch)
        steps = range(start_step, self.steps_per_epoch)
        padded = [padded_size(self._sizes[order.places[self._positions(step)]]) for step in steps]
        if self._workers and padded:
            own = -(-self.batch_size // self.world_size)
            check_shared_memory(own * max(3 * height * width for height, width in padded), self._workers)
        wanted = (self._wanted(step, size, order, mirror) for step, size in zip(steps, padded, strict=True))
        for step, pixels in zip(steps, decoded(self._decoder, wanted, self.device, self._workers), strict=True):
            own_positions, stand_in = self._own(step)
            places = order.places[own_positions]
            targets = self._targets(places, mirror[places])
            yield Batch(
                images=clear_padding(self._normalised(pixels), [found.size for found in targets]),
                labels=self.source.labels[places].to(self.device),
                ids=self.source.ids[places].to(self.device),
                stand_in=stand_in,
                pixels=pixels,
                epoch=epoch,
                start=self.own_before(step),
                targets=targets,
            )

    def _mirror(self, epoch: int) -> Tensor:
        """Whether each image of the source is mirrored in an epoch, bool (N,)."""
        ids = self.source.ids
        if self.augment is None or not self.augment.flip:
            return torch.zeros(len(ids), dtype=torch.bool)
        return draw_choices(self.augment, self.seed, epoch, ids, self.source.shape[1:]).mirror

    def _wanted(self, step: int, padded: Size, order: EpochOrder, mirror: Tensor) -> _Wanted:
        places = order.places[self._own(step)[0]]
        return _Wanted(
            self.source.places[places].tolist(),
            _pairs(self.source.sizes[places]),
            _pairs(self._sizes[places]),
            mirror[places].tolist(),
            padded,
        )

    def _targets(self, places: Tensor, mirror: Tensor) -> tuple[ImageBoxes, ...]:
        """The objects of the images at ``places``, (n,), in pixels of the resized images, on the device."""
        originals, there = self.source.objects_at(places), self.device
        views = zip(originals, _pairs(self._sizes[places]), mirror.tolist(), strict=True)
        found = [view_boxes(objects, size, mirror=turned) for objects, size, turned in views]
        return tuple(
            ImageBoxes(one.boxes.to(there), one.labels.to(there), one.crowd.to(there), one.size, original)
            for one, original in zip(found, originals, strict=True)
        )


def refuse_augment(augment: Augment) -> None:
    """Refuse what is not done to images with boxes: everything but the flip.

    Raises:
        InputError: naming the setting.
    """
    for name in _REFUSED:
        _refuse(name, getattr(augment, name), getattr(_OFF, name))


def _refuse(name: str, value: object, off: object) -> None:
    if value != off:
        raise InputError(f"{name} is {value}, which is not available for object detection yet; give {name}={off}")


def _refuse_size(input_format: InputFormat) -> None:
    if input_format.size is not None:
        height, width = input_format.size
        raise InputError(
            f"the input format has {width}x{height} pixels; images with boxes are resized to image_size and max_size "
            "for every model"
        )


def _pairs(sizes: Tensor) -> list[Size]:
    return [(height, width) for height, width in sizes.tolist()]
