"""Listing of a split before it is decoded: the name, label and source of each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stillroom.data.decoding import Decoded, decode_all, move_to_front, size_of_first
from stillroom.data.image_set import ImageSet
from stillroom.data.image_store import Encoded, ImageStore
from stillroom.data.validation_split import held_out
from stillroom.files import first_few
from stillroom.formatting import counted


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """The images of one split, not decoded yet.

    Attributes:
        where: the folder or file of the split, for messages.
        names: paths or rows of the images, unique in the split.
        labels: int64 array (n,), values in [0, len(classes)); -1 for an image without a label.
        classes: the names of the classes.
        chunks: returns an iterator over the images in order, in chunks.
        problems: problems found so far; with any, the split cannot be used.
        notes: warnings about the split.
        store: random access to the same images; None where there is only reading in order.
        content: int64 array (n,), the content hash of the original file of each image, where the set records it; None
            where the images are the original files.
        copy: makes a store by copying the images to the cache folder, where there is only reading in order; its
            argument is told what is copied.
    """

    where: str
    names: Sequence[str]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    chunks: Callable[[], Iterator[Sequence[Encoded]]]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    store: ImageStore | None = None
    content: NDArray[np.int64] | None = None
    copy: Callable[[Callable[[str], object]], ImageStore] | None = None

    def size(self, image_size: int | None) -> tuple[int, int] | None:
        """Return height and width of the decoded images, or None if not even one header can be read.

        Args:
            image_size: side of the square that images are resized to; None reads the header of the first image.
        """
        return size_of_first(self.chunks()) if image_size is None else (image_size, image_size)

    def decode(self, image_size: int | None) -> Decoded:
        """Decode all images; see :func:`stillroom.data.decoding.decode_all`."""
        size = self.size(image_size)
        return decode_all(self.chunks(), len(self.names), size, self.where, resize=image_size is not None)

    def image_set(self, decoded: Decoded) -> ImageSet:
        """Combine decoded images with their labels.

        Args:
            decoded: what :meth:`decode` returned.

        Returns:
            A set whose ids are indices into the listing. Broken images count too, so ids stay the same when an image
            is repaired.
        """
        labels = torch.from_numpy(self.labels[decoded.places])
        digests = decoded.digests if self.content is None else torch.from_numpy(self.content[decoded.places])
        return ImageSet(decoded.images, labels, torch.from_numpy(decoded.places), self.classes, digests)

    def split(self, decoded: Decoded, val_fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
        """Combine decoded images with their labels and hold some out for validation.

        Args:
            decoded: what :meth:`decode` returned; its tensor is overwritten, so only held-out images are in memory
                twice.
            val_fraction: see :func:`stillroom.data.validation_split.held_out`.
            seed: seed of the split.

        Returns:
            The training and the validation set, with ids as in :meth:`image_set`.
        """
        whole = self.image_set(decoded)
        held = held_out(whole.labels.numpy(), whole.content().numpy(), val_fraction, seed)
        val = whole.at(torch.from_numpy(np.flatnonzero(held)))
        kept = np.flatnonzero(~held)
        move_to_front(whole.images.numpy(), kept)
        places = torch.from_numpy(kept)
        train = ImageSet(
            whole.images[: len(kept)], whole.labels[places], whole.ids[places], self.classes, whole.content()[places]
        )
        return train, val

    def too_small_to_split(self) -> str:
        """Return a message about classes with a single image, which cannot be split; empty if there are none."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes))
        single = [self.classes[label] for label in np.flatnonzero(counts == 1)]
        if not single:
            return ""
        return (
            f"{counted(len(single), 'class')} of {self.where} with one image cannot be split: "
            f"{first_few(single)}; add images or make train and val folders"
        )
