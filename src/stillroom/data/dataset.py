"""Data set: training and validation images with classes, mean, std and augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from stillroom.data.augment import Augment
from stillroom.data.source import Source
from stillroom.errors import InputError
from stillroom.input_format import InputFormat


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """Training and validation images with what is needed to train on them.

    Attributes:
        name: the name of the set or of its folder.
        train: training images.
        val: validation images, with the same classes; all with a label or all without.
        mean: mean of each channel on [0, 1], over all training images before any selection.
        std: standard deviation of each channel on [0, 1], over the same images.
        augment: the default augmentation of the set; the published one where there is one.
        broken: paths or rows of images that were skipped.
        notes: warnings about the set.
        repeated: hashes of validation images that are training images too, before any selection.
        input_size: height and width at which the trained model takes the images, where they are stored at another
            size, because a teacher takes them larger; None: the size at which they are stored.

    Raises:
        InputError: the splits differ in their classes or in the shape of their images, or mean and std do not fit;
            or some validation images have a label and others have none; or the augmentation is not available for them.
    """

    name: str
    train: Source
    val: Source
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment
    broken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    repeated: frozenset[int] = frozenset()
    input_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        shapes = [images.shape for images in (self.train, self.val)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"training images are {shapes[0]} and validation images {shapes[1]} (channels, height, width); "
                "give both splits images of one shape"
            )
        if self.train.classes != self.val.classes:
            pairs = zip_longest(self.train.classes, self.val.classes)
            one, other = next(pair for pair in pairs if pair[0] != pair[1])
            raise InputError(
                f"classes of the training and the validation split differ ({one!r} and {other!r}); give both the same"
            )
        if 0 < self.val.unlabelled < len(self.val):
            raise InputError(
                f"{self.val.unlabelled:,} of {len(self.val):,} validation images have no label; give all of them one, "
                "or none"
            )
        self.train.check_augment(self.augment)
        if not len(self.mean) == len(self.std) == shapes[0][0]:
            raise InputError(
                f"mean and std have {len(self.mean)} and {len(self.std)} values; give {shapes[0][0]}, one a channel"
            )

    @property
    def task(self) -> Literal["classification", "detection"]:
        """What can be learned from the images, a key of :data:`stillroom.scores.SCORES`."""
        return self.train.task

    @property
    def input_format(self) -> InputFormat:
        """How the trained model takes the images."""
        return InputFormat(self.mean, self.std, self.input_size)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image as the trained model takes it."""
        channels, height, width = self.train.shape
        return (channels, *(self.input_size or (height, width)))
