"""Images of one size in memory, with labels, sample ids and class names; a label may be unknown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from stillroom.data.content_hash import hash_images
from stillroom.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

UNKNOWN = -1  # label of an image without one


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Images of one size with labels, ids and class names.

    Attributes:
        images: uint8 tensor (N, C, H, W) on the CPU.
        labels: int64 tensor (N,), values in [0, len(classes)); -1 for an image without a label.
        ids: int64 tensor (N,), the index of each image in the full set, each once.
        classes: the names of the classes.
        digests: int64 tensor (N,), a hash of each image's file or of its pixels; None if not computed; then
            :meth:`content` hashes the pixels.

    Raises:
        InputError: a tensor has another type or shape, or a label has no class.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    classes: tuple[str, ...]
    digests: Tensor | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            found = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise InputError(f"images is {found}; give a uint8 tensor of shape (N, C, H, W)")
        for name, values in (("labels", self.labels), ("ids", self.ids), ("digests", self.digests)):
            if values is None:
                continue
            if values.dtype != torch.int64 or values.shape != (len(self.images),):
                found = f"{values.dtype} {tuple(values.shape)}"
                raise InputError(f"{name} is {found}; give an int64 tensor of shape ({len(self.images)},)")
        low, high = (int(edge) for edge in self.labels.aminmax()) if len(self.labels) else (0, -1)
        if low < UNKNOWN or high >= len(self.classes):
            raise InputError(
                f"labels run from {low} to {high}; with {len(self.classes)} classes give 0 and up, or -1 for an image "
                "without a label"
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @property
    def unlabelled(self) -> int:
        """The number of images without a label."""
        return int((self.labels < 0).sum())

    def labelled(self) -> ImageSet:
        """Return the images with a label as a set."""
        return self.at((self.labels >= 0).nonzero().flatten())

    def without_labels(self) -> ImageSet:
        """Return the same images without their labels."""
        return replace(self, labels=torch.full_like(self.labels, UNKNOWN))

    def select(self, first_classes: int | None = None, per_class: int | None = None) -> ImageSet:
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
        return replace(self.at(kept), classes=self.classes[:count])

    def at(self, places: Tensor) -> ImageSet:
        """Return the images at the indices ``places``, int64 (n,), as a set."""
        digests = None if self.digests is None else self.digests[places]
        return ImageSet(self.images[places], self.labels[places], self.ids[places], self.classes, digests)

    def content(self) -> Tensor:
        """Return the content hashes, int64 (N,): equal for equal image files, or equal pixels."""
        return hash_images(self.images) if self.digests is None else self.digests

    def hashed(self) -> ImageSet:
        """Return the same images with :meth:`content` computed and stored."""
        return replace(self, digests=self.content())

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
