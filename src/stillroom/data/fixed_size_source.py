"""Fixed-size source: a source whose batches have images of one size, in memory or in files."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Unpack

from stillroom.data.loader import Loader
from stillroom.data.source import Source

if TYPE_CHECKING:
    import torch

    from stillroom.data.augment import Augment
    from stillroom.data.batch_loader import LoaderOptions
    from stillroom.data.image_feed import ImageFeed


class FixedSizeSource(Source):
    """The images of one split for batches of one size.

    Attributes:
        crops_whole: whether a random resized crop is taken from the whole image, however large; otherwise from the
            image of the size ``shape``.
    """

    __slots__ = ()

    least_val_batch: ClassVar[int] = 256
    crops_whole: ClassVar[bool]

    def loader(self, **options: Unpack[LoaderOptions]) -> Loader:
        """Return a loader of the images, see :class:`stillroom.data.Loader`."""
        return Loader(self, **options)

    @abstractmethod
    def feed(self, augment: Augment | None, device: torch.device, workers: int) -> ImageFeed:
        """Open the images for reading batch by batch.

        Args:
            augment: the augmentation of the batches; None for validation.
            device: where the batches are made.
            workers: number of processes that decode; 0 decodes in this one.

        Raises:
            InputError: there is too little memory.
        """
