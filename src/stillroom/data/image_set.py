"""Image set: a source of images of one size in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from stillroom.data.content_hash import hash_images
from stillroom.data.fixed_size_source import FixedSizeSource
from stillroom.data.image_feed import MemoryFeed
from stillroom.data.source import check_vectors
from stillroom.errors import InputError
from stillroom.fingerprint import tensors_digest

if TYPE_CHECKING:
    from torch import Tensor

    from stillroom.data.augment import Augment


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet(FixedSizeSource):
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

    kind: ClassVar[str] = "memory"
    crops_whole: ClassVar[bool] = False

    images: Tensor
    labels: Tensor
    ids: Tensor
    classes: tuple[str, ...]
    digests: Tensor | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            found = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise InputError(f"images is {found}; give a uint8 tensor of shape (N, C, H, W)")
        check_vectors(len(self.images), labels=self.labels, ids=self.ids, digests=self.digests)
        self.check_labels()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def at(self, places: Tensor) -> ImageSet:
        """Return the images at the indices ``places``, int64 (n,), as a set."""
        digests = None if self.digests is None else self.digests[places]
        return ImageSet(self.images[places], self.labels[places], self.ids[places], self.classes, digests)

    def content(self) -> Tensor:
        """Return the content hashes, int64 (N,): equal for equal image files, or equal pixels."""
        return hash_images(self.images) if self.digests is None else self.digests

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any pixel, id, or the order."""
        return tensors_digest(self.images, self.ids)

    def pixels(self, places: Tensor) -> Tensor:
        """Return the images at ``places``, uint8 (n, C, H, W)."""
        return self.images[places]

    def feed(self, augment: Augment | None, device: torch.device, workers: int) -> MemoryFeed:  # noqa: ARG002
        """Store the images on the device."""
        return MemoryFeed(self.images, device)
