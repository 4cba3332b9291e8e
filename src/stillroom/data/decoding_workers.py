"""Decoding workers: processes that decode the images of batches ahead of their use."""

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
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from stillroom.data.image_store import ImageStore
from stillroom.errors import InputError, WorkerDied
from stillroom.files import shown

AHEAD = 2  # batches that each worker decodes ahead
DEATH_SECONDS = 5.0  # until a killed worker is known to be dead; it takes milliseconds
_SHARED = "/dev/shm"  # noqa: S108  where Linux keeps memory that processes share
_MOST_WORKERS = 16


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a worker sends instead of a batch that it cannot read."""

    message: str


class StoreDecoder(Dataset[Any]):
    """Decodes batches of images of a store; it is copied to the workers.

    Args:
        store: the encoded images.
        names: the name of each image in the store, for messages.
    """

    def __init__(self, store: ImageStore, names: Sequence[str]) -> None:
        self.store, self.names = store, names

    def __getitem__(self, wanted: Any) -> Tensor | _Failure:
        """Decode the images of a batch, or say what is wrong: a worker cannot raise an error of ours."""
        try:
            return self.decode(wanted)
        except InputError as error:
            return _Failure(str(error))

    @abstractmethod
    def decode(self, wanted: Any) -> Tensor:
        """Decode the images of a batch.

        Args:
            wanted: which images, and what their views need.

        Raises:
            InputError: an image cannot be read; the message names it.
        """

    def room(self, size: Sequence[int]) -> Tensor:
        """Return a uint8 tensor of unknown content; in a worker, in memory that the main process shares."""
        room = torch.empty(*size if get_worker_info() is None else (0,), dtype=torch.uint8)
        if get_worker_info() is not None:  # as torch's own collate does: no copy
            room.set_(torch.UntypedStorage._new_shared(math.prod(size)))  # type: ignore[no-untyped-call]
        return room.view(*size)

    def unreadable(self, place: int, reason: OSError) -> InputError:
        """Return the error of an image that cannot be decoded, with the fix."""
        return InputError(
            f"{self.name(place)} cannot be read ({reason}); repair the file, then the same command continues, or "
            "remove it and start the run anew"
        )

    def name(self, place: int) -> str:
        """Return the name of an image, for messages."""
        return shown(str(self.names[place]))


def decoded(decoder: StoreDecoder, wanted: Iterable[Any], device: torch.device, workers: int) -> Iterator[Tensor]:
    """Yield the decoded images of each batch on the device; the workers end with the iterator.

    A worker process decodes whole batches, so a batch does not depend on the number of workers. At most
    ``2 * workers + 2`` batches are in memory.

    Args:
        decoder: decodes the images.
        wanted: what the decoder is given for each batch.
        device: where the batches are needed.
        workers: number of processes; 0 decodes in this one, when a batch is due.

    Raises:
        InputError: an image cannot be read.
        WorkerDied: a worker was killed.
    """
    if not workers:
        for one in wanted:
            yield _moved(decoder[one], device)
        return
    with naming_workers():
        batches = iter(_processes(decoder, wanted, device, workers))
        while (batch := _next_of(batches)) is not None:
            yield _moved(batch, device)


def _processes(decoder: StoreDecoder, wanted: Iterable[Any], device: torch.device, workers: int) -> DataLoader[Any]:
    # A forked worker shares the index of the images with this process, and needs no guard in the user's script.
    fork = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    return DataLoader(
        decoder, batch_size=None, sampler=wanted, num_workers=workers, collate_fn=_unchanged, prefetch_factor=AHEAD,
        pin_memory=device.type == "cuda", multiprocessing_context=fork, worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # PyTorch draws a seed for workers, and not from the run's random numbers
    )  # fmt: skip


def _moved(batch: Tensor | _Failure, device: torch.device) -> Tensor:
    if isinstance(batch, _Failure):
        raise InputError(batch.message)
    return batch.to(device, non_blocking=True)


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
