"""Source: where the images of a split come from, with labels, sample ids and class names; a label may be unknown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self, Unpack

import torch

from stillroom.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from stillroom.data.augment import Augment
    from stillroom.data.batch_loader import BatchLoader, LoaderOptions

UNKNOWN = -1  # label of an image without one


class Source(ABC):
    """The images of one split. A subclass is a frozen dataclass that says where they are.

    Attributes:
        labels: int64 tensor (N,), values in [0, len(classes)); -1 for an image without a label.
        ids: int64 tensor (N,), the index of each image in the full set, each once.
        classes: the names of the classes.
        task: what can be learned from them, a key of :data:`stillroom.scores.SCORES`.
        kind: where the images are: "memory" or "files".
        one_size: whether the images in batches have the height and width of :attr:`shape`; else they have its height
            on their shorter side.
        least_val_batch: number of images that a forward pass alone takes at once at least, whatever the training batch.
    """

    __slots__ = ()

    task: ClassVar[Literal["classification", "detection"]] = "classification"
    kind: ClassVar[str]
    one_size: ClassVar[bool] = True
    least_val_batch: ClassVar[int]
    labels: Tensor
    ids: Tensor
    classes: tuple[str, ...]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images in batches, before a network takes them at its own size."""

    @abstractmethod
    def at(self, places: Tensor) -> Self:
        """Return the images at the indices ``places``, int64 (n,), as a source."""

    @abstractmethod
    def content(self) -> Tensor:
        """Return the content hashes, int64 (N,): equal for equal image files, or equal pixels."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any image, id, the order, or the way to read them."""

    @abstractmethod
    def pixels(self, places: Tensor) -> Tensor:
        """Return the images at ``places``, int64 (n,), without augmentation: uint8 (n, C, H, W) on the CPU."""

    @abstractmethod
    def loader(self, **options: Unpack[LoaderOptions]) -> BatchLoader:
        """Return a loader of the images.

        Args:
            options: those of :class:`stillroom.data.Loader`.

        Raises:
            InputError: an option is outside its range, the images cannot have it, or there is too little memory.
        """

    def check_augment(self, augment: Augment) -> None:  # noqa: B027  most sources can have any augmentation
        """Refuse an augmentation that is not available for these images.

        Raises:
            InputError: naming the setting.
        """

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def unlabelled(self) -> int:
        """The number of images without a label."""
        return int((self.labels < 0).sum())

    def labelled(self) -> Self:
        """Return the images with a label."""
        return self.at((self.labels >= 0).nonzero().flatten())

    def without_labels(self) -> Self:
        """Return the same images without their labels."""
        return replace(self, labels=torch.full_like(self.labels, UNKNOWN))  # type: ignore[type-var]

    def hashed(self) -> Self:
        """Return the same images with :meth:`content` computed and stored."""
        return replace(self, digests=self.content())  # type: ignore[type-var]

    def of_classes(self, places: Sequence[int]) -> Self:
        """Return the images of some classes in id order; every image keeps its id. Images without a label are left out.

        Args:
            places: of the classes among :attr:`classes`, ascending. They become the classes.

        Raises:
            InputError: no image has a label.
        """
        if self.unlabelled == len(self):
            raise InputError("only_classes selects by label, and no image has one; leave it out")
        places_of = torch.full((len(self.classes),), UNKNOWN)
        places_of[list(places)] = torch.arange(len(places))
        order = torch.argsort(self.ids)
        order = order[self.labels[order] >= 0]
        kept = order[places_of[self.labels[order]] >= 0]
        found = self.at(kept)
        classes = tuple(self.classes[place] for place in places)
        return replace(found, labels=places_of[found.labels], classes=classes)  # type: ignore[type-var]

    def select(self, first_classes: int | None = None, per_class: int | None = None) -> Self:
        """Return a subset in id order; every image keeps its id. Images without a label are in no subset.

        Args:
            first_classes: keep only this many classes, the first ones; from 2 to all.
            per_class: keep only this many images of each class, the first in id order; >= 1.

        Raises:
            InputError: fewer than 2 classes or 1 image, or more than there are; or no image has a label.
        """
        count = len(self.classes) if first_classes is None else first_classes
        if not 2 <= count <= len(self.classes) and first_classes is not None:
            raise InputError(f"first_classes is {count}; give 2 to {len(self.classes)}, the classes there are")
        if first_classes is None and per_class is None:
            return self
        if self.unlabelled == len(self):
            raise InputError("first_classes and per_class select by label, and no image has one; leave them out")
        order = torch.argsort(self.ids)
        kept = order[(self.labels[order] >= 0) & (self.labels[order] < count)]
        if per_class is not None:
            kept = self._first_of_each(kept, count, per_class)
        return replace(self.at(kept), classes=self.classes[:count])  # type: ignore[type-var]

    def check_labels(self) -> None:
        """Refuse labels without a class.

        Raises:
            InputError: a label has no class.
        """
        low, high = (int(edge) for edge in self.labels.aminmax()) if len(self.labels) else (0, -1)
        if low < UNKNOWN or high >= len(self.classes):
            raise InputError(
                f"labels run from {low} to {high}; with {len(self.classes)} classes give 0 and up, or -1 for an image "
                "without a label"
            )

    def _first_of_each(self, kept: Tensor, classes: int, per_class: int) -> Tensor:
        labels = self.labels[kept]
        counts = torch.bincount(labels, minlength=classes)
        rarest = int(counts.argmin())
        if not 1 <= per_class <= int(counts[rarest]):
            raise InputError(
                f"per_class is {per_class}; give 1 to {int(counts[rarest])}, "
                f"the images of class {self.classes[rarest]!r}"
            )
        by_class = torch.argsort(labels, stable=True)
        starts = counts.cumsum(0) - counts
        rank = torch.arange(len(kept)) - starts[labels[by_class]]
        return kept[by_class[rank < per_class].sort().values]


def check_vectors(count: int, **vectors: Tensor | None) -> None:
    """Refuse a tensor that is not int64 of shape (count,); None is no tensor.

    Raises:
        InputError: naming the tensor.
    """
    for name, values in vectors.items():
        if values is not None and (values.dtype != torch.int64 or values.shape != (count,)):
            found = f"{values.dtype} {tuple(values.shape)}"
            raise InputError(f"{name} is {found}; give an int64 tensor of shape ({count},)")
