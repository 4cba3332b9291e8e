"""File feed: decodes the images of each batch in worker processes, ahead of their use."""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from stillroom.data.framing import Framing, decode_framed
from stillroom.data.image_feed import Request
from stillroom.data.image_store import ImageStore
from stillroom.errors import InputError, WorkerDied
from stillroom.files import shown

AHEAD = 2  # batches that each worker decodes ahead
DEATH_SECONDS = 5.0  # until a killed worker is known to be dead; it takes milliseconds
_SHARED = "/dev/shm"  # noqa: S108  where Linux keeps memory that processes share
_MOST_WORKERS = 16

_Places = NDArray[np.int64]
_Draws = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a worker sends instead of a batch that it cannot read."""

    message: str


class Decoder(Dataset[Any]):
    """Decodes images of a store; it is copied to the workers.

    Args:
        store: the encoded images.
        names: the name of each image in the store, for messages.
        framing: how a decoded image is cut and resized.
        shape: channels, height and width of the result.
    """

    def __init__(self, store: ImageStore, names: Sequence[str], framing: Framing, shape: tuple[int, int, int]) -> None:
        self.store, self.names, self.framing, self.shape = store, names, framing, shape

    def __getitem__(self, wanted: tuple[_Places, _Draws | None]) -> Tensor | _Failure:
        """Decode the images of a batch.

        Args:
            wanted: indices into the store (n,), and the numbers of random crops (views, n, 4) or None for one view.

        Returns:
            uint8 tensor (views, n, C, H, W), its channels last in memory; or what is wrong.
        """
        places, draws = wanted
        batch = self._room(len(places), 1 if draws is None else len(draws))
        try:
            for row, place in enumerate(places.tolist()):
                self._into(batch[row], place, None if draws is None else draws[:, row])
        except InputError as error:
            return _Failure(str(error))
        return batch.transpose(0, 1)

    def some(self, places: Sequence[int]) -> Tensor:
        """Decode a few images in threads of this process: uint8 (n, C, H, W)."""
        batch = self._room(len(places), 1)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self._into, batch, places))
        return batch[:, 0]

    def _room(self, count: int, views: int) -> Tensor:
        channels, height, width = self.shape
        size = (count, views, height, width, channels)
        room = torch.empty(size if get_worker_info() is None else 0, dtype=torch.uint8)
        if get_worker_info() is not None:  # memory that the main process shares, as torch's own collate does: no copy
            room.set_(torch.UntypedStorage._new_shared(math.prod(size)))  # type: ignore[no-untyped-call]
        return room.view(size).permute(0, 1, 4, 2, 3)

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
            raise InputError(
                f"{self._name(place)} cannot be read ({error}); repair the file, then the same command continues, or "
                "remove it and start the run anew"
            ) from None
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            size = f"{self.shape[2]}x{self.shape[1]}"
            raise InputError(
                f"image_size is None but {self._name(place)} differs from other images in size (not {size}); give "
                "image_size"
            ) from None

    def _name(self, place: int) -> str:
        return shown(str(self.names[place]))


class FileFeed:
    """Feed of images that are decoded on demand.

    A worker process decodes whole batches, so a batch does not depend on the number of workers. At most
    ``2 * workers + 2`` batches are in memory.

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
        wanted = ((self._places[request.places.numpy()], request.draws) for request in requests)
        if not self._workers:
            for one in wanted:
                yield self._moved(self._decoder[one])
            return
        with naming_workers():
            batches = iter(self._loader(self._checked(wanted)))
            while (batch := _next_of(batches)) is not None:
                yield self._moved(batch)

    def _loader(self, wanted: Iterable[tuple[_Places, _Draws | None]]) -> DataLoader[Any]:
        # A forked worker shares the index of the images with this process, and needs no guard in the user's script.
        fork = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
        return DataLoader(
            self._decoder, batch_size=None, sampler=wanted, num_workers=self._workers, collate_fn=_unchanged,
            prefetch_factor=AHEAD, pin_memory=self._device.type == "cuda", multiprocessing_context=fork,
            worker_init_fn=_ignore_signals,
            generator=torch.Generator(),  # PyTorch draws a seed for workers, and not from the run's random numbers
        )  # fmt: skip

    def _checked(self, wanted: Iterable[tuple[_Places, _Draws | None]]) -> Iterator[tuple[_Places, _Draws | None]]:
        """The same requests; the first is checked against the shared memory."""
        for number, (places, draws) in enumerate(wanted):
            if not number:
                views = 1 if draws is None else len(draws)
                check_shared_memory(views * len(places) * int(np.prod(self._decoder.shape)), self._workers)
            yield places, draws

    def _moved(self, batch: Tensor | _Failure) -> Tensor:
        if isinstance(batch, _Failure):
            raise InputError(batch.message)
        return batch.to(self._device, non_blocking=True)


def worker_count(workers: int | None = None) -> int:
    """Number of worker processes: the given one, or this process's part of the machine's cores, at most 16."""
    if workers is not None:
        return workers
    if "LOCAL_WORLD_SIZE" in os.environ:  # torchrun gives each process one thread unless told otherwise
        return max(1, min(_MOST_WORKERS, _cores() // max(1, int(os.environ["LOCAL_WORLD_SIZE"]))))
    return max(1, min(_MOST_WORKERS, torch.get_num_threads(), _cores()))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_shared_memory(batch_bytes: int, workers: int) -> None:
    """Refuse batches that do not fit into the shared memory, where a worker would be killed later.

    Args:
        batch_bytes: of one batch of this process.
        workers: number of worker processes.

    Raises:
        InputError: naming the remedies.
    """
    if not os.path.isdir(_SHARED):  # noqa: PTH112  a plain test
        return
    needed, free = (AHEAD * workers + 1) * batch_bytes, shutil.disk_usage(_SHARED).free
    if needed > free:
        raise InputError(
            f"workers={workers}: their batches need {needed / 1e9:.2g} GB of shared memory and {_SHARED} has "
            f"{free / 1e9:.2g} GB; lower workers or batch_size, or give the container more (docker run --shm-size)"
        )


@contextmanager
def naming_workers() -> Iterator[None]:
    """Turn PyTorch's error about a dead worker, which it may raise at any line of the block, into one with the fix.

    Raises:
        WorkerDied: a worker process was killed.
    """
    try:
        yield
    except RuntimeError as error:
        found = re.search(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*?)\.? *$", str(error).partition("\n")[0])
        if found is None:
            raise
        _end_workers(error)
        raise WorkerDied(
            f"the worker process {found[1]} that decodes images died ({found[2]}); where memory is short, lower "
            "workers or batch_size. The same command continues from the last checkpoint"
        ) from error.with_traceback(None)


def _next_of(batches: Iterator[Any]) -> Any:
    """The next batch of PyTorch's loader; None at the end."""
    try:
        return next(batches, None)
    except (ConnectionError, EOFError):  # of a worker that was killed while it handed over a batch
        time.sleep(DEATH_SECONDS)  # in which PyTorch's handler of SIGCHLD raises the error that names the worker
        raise


def _end_workers(error: BaseException) -> None:
    """End the other workers, which the frames of an error's traceback keep alive.

    PyTorch's handler of SIGCHLD raises the error again for each worker that ends; it is switched off meanwhile.
    """
    mine = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if mine else None
    try:
        found: BaseException | None = error
        while found is not None:
            traceback.clear_frames(found.__traceback__)
            found = found.__context__
    finally:
        if before is not None:
            signal.signal(signal.SIGCHLD, before)


def _unchanged(batch: Any) -> Any:
    return batch


def _ignore_signals(_: int) -> None:
    """Leave Ctrl-C and a scheduler's signals to the main process, which saves the run and ends its workers."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
