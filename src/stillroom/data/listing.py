"""A split as it lies on disk: what each image is called, its label, and how to get at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stillroom.data.decoding import Decoded, Source, decode_all, move_to_front, size_of_first
from stillroom.data.image_set import ImageSet
from stillroom.data.validation_split import held_out
from stillroom.files import first_few
from stillroom.formatting import counted


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """The images of one split before they are decoded.

    Attributes:
        where: the split's folder or file, for messages.
        names: one an image, unique in the split; paths or rows.
        labels: int64 array (n,), values in [0, len(classes)).
        classes: the names of the classes.
        chunks: makes an iterator over the images in order, some at a time.
        complaints: what was found wrong with the split so far; with any, it cannot be used.
        notes: what is good to know of it.
    """

    where: str
    names: Sequence[str]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    chunks: Callable[[], Iterator[Sequence[Source]]]
    complaints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def size(self, image_size: int | None) -> tuple[int, int] | None:
        """Return height and width of the images once decoded; None where not even one header can be read.

        Args:
            image_size: side of the square to bring all to; None reads the header of the first.
        """
        return size_of_first(self.chunks()) if image_size is None else (image_size, image_size)

    def decode(self, image_size: int | None) -> Decoded:
        """Decode all images; see :func:`stillroom.data.decoding.decode_all`."""
        size = self.size(image_size)
        return decode_all(self.chunks(), len(self.names), size, self.where, resize=image_size is not None)

    def image_set(self, decoded: Decoded) -> ImageSet:
        """Put images and labels together.

        Args:
            decoded: what :meth:`decode` returned.

        Returns:
            A set whose ids are the places in the listing, broken images counted, so that ids stay when an image is
            repaired.
        """
        labels = torch.from_numpy(self.labels[decoded.places])
        return ImageSet(decoded.images, labels, torch.from_numpy(decoded.places), self.classes, decoded.digests)

    def split(self, decoded: Decoded, val_fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
        """Put images and labels together and hold some out for validation.

        Args:
            decoded: what :meth:`decode` returned; its tensor is used up, so that only what is held out is in memory
                twice.
            val_fraction: see :func:`stillroom.data.validation_split.held_out`.
            seed: of the choice.

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
        """Return a complaint about classes of a single image, of which none can be held out, or nothing."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes))
        single = [self.classes[label] for label in np.flatnonzero(counts == 1)]
        if not single:
            return ""
        return (
            f"{counted(len(single), 'class')} of {self.where} with one image cannot be split: "
            f"{first_few(single)}; add images or make train and val folders"
        )
