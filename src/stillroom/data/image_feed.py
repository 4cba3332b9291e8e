"""Image feed: the uint8 images of one batch after another, on the device; of a set in memory, by index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillroom.errors import InputError


@dataclass(frozen=True, slots=True)
class Request:
    """The images of one batch.

    Attributes:
        places: int64 (n,) on the CPU, indices into the source.
        there: the same on the device.
        draws: float64 (views, n, 4) in [0, 1), from which the random crops of whole images follow, a row for each view;
            None for one view without a random crop.
    """

    places: Tensor
    there: Tensor
    draws: NDArray[np.float64] | None = None


class ImageFeed(Protocol):
    """Reads batches of images ahead of their use."""

    def batches(self, requests: Iterable[Request]) -> Iterator[Tensor]:
        """Yield uint8 (views, n, C, H, W) on the device for each request, in order.

        Raises:
            InputError: an image cannot be read; the message names it.
        """


class MemoryFeed:
    """Feed of images that are stored on the device.

    Args:
        images: uint8 (N, C, H, W) on the CPU.
        device: where they are stored.

    Raises:
        InputError: they do not fit into the device's memory.
    """

    def __init__(self, images: Tensor, device: torch.device) -> None:
        try:
            self._images = images.to(device)
        except RuntimeError as error:  # torch.OutOfMemoryError, or another error on other devices
            if "out of memory" not in str(error):
                raise
            raise InputError(
                f"{len(images)} images of {images.shape[1]}x{images.shape[2]}x{images.shape[3]} take "
                f"{images.nbytes / 1e9:.1f} GB, and {device} has no room for them: give source=files, a smaller "
                "image_size, fewer images (per_class, first_classes), or accelerator=cpu"
            ) from error

    def batches(self, requests: Iterable[Request]) -> Iterator[Tensor]:
        """Yield the images of each request, one view of each."""
        for request in requests:
            yield self._images.index_select(0, request.there)[None]
