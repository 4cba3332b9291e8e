"""The workers of a comparison or a tuning: processes of this machine, or a Ray cluster. Both return futures."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch

from stillroom.compare.run_cell import SECONDS_TO_SAVE, end_with
from stillroom.formatting import counted
from stillroom.runtime.ray_cluster import connect_to_ray

BYTES_PER_RUN = 2 * 10**9  # a process with PyTorch, a small set of images and two small models


def in_folder(folder: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in the working directory of the comparison, for relative paths; a cluster has another one.

    Args:
        folder: where the comparison was started; ignored on a machine that lacks it.
        function: to call.
        arguments: of it.
    """
    with suppress(OSError):
        os.chdir(folder)
    return function(*arguments)


class Workers(Protocol):
    """Runs functions in other processes."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin a call; its future holds its result or error, or that its process died."""

    def finish_saving(self) -> None:
        """Ask the active runs to save their state, and wait for them, with a limit.

        Their futures say which of them did.
        """

    def stop(self) -> None:
        """End everything."""


class Processes:
    """Processes of this machine that train many cells each; one that dies loses only its current cell.

    Args:
        count: how many run at the same time.
    """

    def __init__(self, count: int) -> None:
        from pebble import CONSTS

        CONSTS.term_timeout = SECONDS_TO_SAVE
        self._count = count
        self._others = {process.pid for process in multiprocessing.active_children()}
        self._calls: list[Future[Any]] = []
        self._pool = self._make()

    def _make(self) -> Any:
        from pebble import ProcessPool

        # Spawned, because a process that used CUDA or threads must not be forked.
        context = multiprocessing.get_context("spawn")
        return ProcessPool(max_workers=self._count, initializer=end_with, initargs=[os.getpid()], context=context)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin a call in the next free process."""
        if not self._pool.active:  # the pool becomes inactive when idle processes die
            self._pool = self._make()
        future: Future[Any] = self._pool.schedule(function, args=arguments)
        self._calls = [call for call in self._calls if not call.done()] + [future]
        return future

    def finish_saving(self) -> None:
        """Send every process SIGTERM, and wait for the results of the calls.

        Not through the pool, which would close the connections first, so that the results would be lost.
        """
        from pebble import CONSTS

        for process in multiprocessing.active_children():
            if process.pid not in self._others:
                process.terminate()
        wait(self._calls, timeout=SECONDS_TO_SAVE)
        CONSTS.term_timeout = 1  # a run that has not saved by now will not

    def stop(self) -> None:
        """Tell the processes to stop, and wait for them."""
        self._pool.stop()
        self._pool.join()


class Cluster:
    """A Ray cluster, whose machines have the run folders under the same path.

    Args:
        address: "local" to start one on this machine, "auto" for the one that is running, or an address.
        count: processes of a cluster of our own.
        threads: processor cores of each cell.

    Raises:
        InputError: if Ray is not installed or cannot be reached.
    """

    def __init__(self, address: str, count: int, threads: int) -> None:
        self._ray = connect_to_ray(address, count * threads)
        self._calls: dict[Future[Any], Any] = {}
        self._needs = {"num_cpus": threads, "num_gpus": 1 if torch.cuda.is_available() else 0, "max_retries": 0}

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin a call on any machine with free cores."""
        begin = self._ray.remote(in_folder).options(**self._needs)
        reference = begin.remote(str(Path.cwd()), function, *arguments)
        future: Future[Any] = reference.future()
        self._calls = {call: other for call, other in self._calls.items() if not call.done()} | {future: reference}
        return future

    def finish_saving(self) -> None:
        """Interrupt every call as Ctrl-C would, and wait for the results; Ray's own shutdown leaves no time."""
        for reference in self._calls.values():
            self._ray.cancel(reference)
        wait(self._calls, timeout=SECONDS_TO_SAVE)

    def stop(self) -> None:
        """Disconnect from the cluster, which ends everything that this process began on it."""
        self._ray.shutdown()


@dataclass(frozen=True)
class Staff:
    """Workers, the number of runs at a time, and the threads per run."""

    workers: Workers
    count: int
    threads: int

    @property
    def words(self) -> str:
        """As in "2 at a time, 1 thread each"."""
        return f"{self.count} at a time, {counted(self.threads, 'thread')} each"


def make_staff(ray: str | None, count: int) -> Staff:
    """Start workers.

    Args:
        ray: address of a Ray cluster, as for :class:`Cluster`; None for processes of this machine.
        count: runs at the same time.

    Raises:
        InputError: as for :class:`Cluster`.
    """
    threads = threads_for(count)
    return Staff(Processes(count) if ray is None else Cluster(ray, count, threads), count, threads)


def jobs_here() -> int:
    """Number of runs at a time on this machine: one per GPU, else one per core as far as memory allows."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return max(1, min(_cores(physical=True), int(psutil.virtual_memory().available // BYTES_PER_RUN)))


def threads_for(count: int) -> int:
    """Threads per run: as many as OMP_NUM_THREADS or MKL_NUM_THREADS say, else an equal part of the cores.

    Args:
        count: runs at the same time, >= 1.
    """
    if any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")):
        return torch.get_num_threads()  # PyTorch has read the variable
    return max(1, _cores(physical=False) // count)


def _cores(*, physical: bool) -> int:
    """Cores that this process may use; affinity or a container can make them fewer than the machine has."""
    import joblib

    return int(joblib.cpu_count(only_physical_cores=physical))
