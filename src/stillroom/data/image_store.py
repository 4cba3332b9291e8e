"""Image store: random access to encoded images, in files or inside larger files."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

Encoded = Path | bytes | None  # an image file or its bytes; None: the set lists an image but does not contain it


class ImageStore(Protocol):
    """Random access to the encoded images of one split, by their index in the listing.

    Worker processes get a store by fork, or pickled. It opens its files in the process that reads, and pickles in a few
    kilobytes or as plain arrays.
    """

    def __len__(self) -> int:
        """Return the number of images."""

    def __getitem__(self, place: int) -> Encoded:
        """Return an image as it is stored.

        Args:
            place: in [0, len).

        Raises:
            InputError: the file has changed, was cut short or has vanished since it was listed; the message names it.
        """
