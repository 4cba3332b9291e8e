"""File feed: reads batches of images of one size from files, decoded in worker processes ahead of their use."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillroom.data.decoding_workers import StoreDecoder, check_shared_memory, decoded
from stillroom.data.framing import Framing, decode_framed
from stillroom.data.image_feed import Request
from stillroom.data.image_store import ImageStore
from stillroom.errors import InputError

_Places = NDArray[np.int64]
_Draws = NDArray[np.float64]


class Decoder(StoreDecoder):
    """Decodes images of a store to one size.

    Args:
        store: the encoded images.
        names: the name of each image in the store, for messages.
        framing: how a decoded image is cut and resized.
        shape: channels, height and width of the result.
    """

    def __init__(self, store: ImageStore, names: Sequence[str], framing: Framing, shape: tuple[int, int, int]) -> None:
        super().__init__(store, names)
        self.framing, self.shape = framing, shape

    def decode(self, wanted: tuple[_Places, _Draws | None]) -> Tensor:
        """Decode the images of a batch.

        Args:
            wanted: indices into the store (n,), and the numbers of random crops (views, n, 4) or None for one view.

        Returns:
            uint8 tensor (views, n, C, H, W), its channels last in memory.

        Raises:
            InputError: an image cannot be read, or its size differs; the message names it.
        """
        places, draws = wanted
        batch = self._room(len(places), 1 if draws is None else len(draws))
        for row, place in enumerate(places.tolist()):
            self._into(batch[row], place, None if draws is None else draws[:, row])
        return batch.transpose(0, 1)

    def some(self, places: Sequence[int]) -> Tensor:
        """Decode a few images in threads of this process: uint8 (n, C, H, W)."""
        batch = self._room(len(places), 1)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self._into, batch, places))
        return batch[:, 0]

    def _room(self, count: int, views: int) -> Tensor:
        channels, height, width = self.shape
        return self.room((count, views, height, width, channels)).permute(0, 1, 4, 2, 3)

    def _into(self, out: Tensor, place: int, draws: _Draws | None = None) -> None:
        """Decode one image.

        Args:
            out: receives it, (views, C, H, W).
            place: index into the store.
            draws: numbers of its random crops, (views, 4).

        Raises:
            InputError: it cannot be read, or its size differs; the message names it.
        """
        try:
            decode_framed(self.store[place], self.framing, draws, out)
        except OSError as error:
            raise self.unreadable(place, error) from None
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            size = f"{self.shape[2]}x{self.shape[1]}"
            raise InputError(
                f"image_size is None but {self.name(place)} differs from other images in size (not {size}); give "
                "image_size"
            ) from None


class FileFeed:
    """Feed of images that are decoded on demand.

    Args:
        decoder: decodes the images.
        places: int64 (N,), the index in the store of each image of the source.
        device: where the batches are needed.
        workers: number of processes; 0 decodes in this one, when a batch is due.
    """

    def __init__(self, decoder: Decoder, places: Tensor, device: torch.device, workers: int) -> None:
        self._decoder, self._places = decoder, places.numpy()
        self._device, self._workers = device, workers

    def batches(self, requests: Iterable[Request]) -> Iterator[Tensor]:
        """Yield the decoded images of each request; the workers end with the iterator.

        Raises:
            InputError: an image cannot be read, or there is too little shared memory.
            WorkerDied: a worker was killed.
        """
        return decoded(self._decoder, self._wanted(requests), self._device, self._workers)

    def _wanted(self, requests: Iterable[Request]) -> Iterator[tuple[_Places, _Draws | None]]:
        """What the decoder needs for each request; the first is checked against the shared memory."""
        for number, request in enumerate(requests):
            places, draws = self._places[request.places.numpy()], request.draws
            if self._workers and not number:
                views = 1 if draws is None else len(draws)
                check_shared_memory(views * len(places) * int(np.prod(self._decoder.shape)), self._workers)
            yield places, draws
