"""Run a comparison: make the grid, check every cell, train, and read the results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from stillroom.compare.cell_checks import check_cells
from stillroom.compare.grid import Grid, make_grid
from stillroom.compare.grid_record import joined_record, write_record
from stillroom.compare.live_board import Board, make_board
from stillroom.compare.options import CompareOptions, names_of
from stillroom.compare.schedule import Schedule, is_done
from stillroom.compare.workers import Cluster, Processes, Workers
from stillroom.errors import InputError, Stopped
from stillroom.extras import require
from stillroom.formatting import counted
from stillroom.report.aggregate import Comparison, read_comparison
from stillroom.report.own_files import PAGE, refuse_foreign
from stillroom.runtime.folder_lock import locked
from stillroom.runtime.signals import StopRequest, stop_requests
from stillroom.trust import Trust, given

BYTES_PER_RUN = 2 * 10**9  # a process with PyTorch, a small set of images and two small models


@dataclass(frozen=True)
class Compared:
    """The result of a comparison.

    Attributes:
        folder: contains one run folder per cell, ``comparison.yaml`` and the page.
        comparison: the finished runs by pair, method and seed, for :func:`stillroom.report.summary.summarize`.
        failed: failed cells by name, each with its problem in one line.
    """

    folder: Path
    comparison: Comparison
    failed: dict[str, str]


def compare(
    options: CompareOptions,
    settings: dict[str, Any],
    make: Callable[[Grid], Board] = make_board,
    trust: Trust | None = None,
) -> Compared:
    """Train every unfinished cell of a grid.

    Args:
        options: pairs, methods, seeds, and how the runs are carried out.
        settings: common to all runs: data, optimizer and run settings.
        make: makes the board that shows the progress.
        trust: which models and methods may be imported or fetched; None permits those in ``options``.

    Raises:
        InputError: a setting cannot work, an optional package is missing, or every cell failed.
        Stopped: after Ctrl-C, SIGTERM or SIGHUP; the message says what is saved.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("a comparison starts its own processes: call it without torchrun, with jobs= or ray=")
    require("a comparison", "report")
    trust = given([*names_of(options), settings.get("log_to")]) if trust is None else trust
    grid = make_grid(options, settings, trust)
    joined_record(grid)
    if options.page:
        refuse_foreign(grid.folder / "index.html", PAGE, "name=")
    todo = [cell for cell in grid.cells if not is_done(grid, cell)]
    count = min(len(todo), options.jobs or jobs_here())
    notes = check_cells(grid, todo, copies=count if options.ray in (None, "local") else 1)
    failed: dict[str, str] = {}
    with _alone_in(grid.folder), stop_requests() as stop:
        record = joined_record(grid)  # another process may have written it since
        if todo:
            workers = _workers(options, count)  # before anything is written, for this may fail
            write_record(grid.folder, record)
            board = make(grid)
            board.say(_opening(grid, len(todo), workers))
            for note in notes:
                board.say(note)
            failed = _work(grid, options, workers, stop, board)
        else:
            write_record(grid.folder, record)
        if stop.signal_number:
            raise _stopped(grid, stop, [])
    if len(failed) == len(grid.cells):
        raise InputError(f"every run failed; the first: {next(iter(failed.values()))}")
    return Compared(grid.folder, read_comparison([grid.folder], options.reference, trust=trust), failed)


def _opening(grid: Grid, todo: int, staff: _Staff) -> str:
    """One line on what will be done."""
    finished = len(grid.cells) - todo
    before = f", {finished:,} finished already" if finished else ""
    work = f"{staff.count} at a time, {counted(staff.threads, 'thread')} each"
    return f"{grid.folder.name}: {counted(len(grid.cells), 'run')}{before}; {work}"


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Acquire an exclusive lock on a folder, which is created where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be created ({error.strerror}); choose another runs= folder") from error
    try:
        with locked(folder / ".lock"):
            yield
    finally:
        with suppress(OSError):
            folder.rmdir()  # succeeds only if it is empty


@dataclass(frozen=True)
class _Staff:
    """Workers, the number of runs at a time, and the threads per run."""

    workers: Workers
    count: int
    threads: int


def _workers(options: CompareOptions, count: int) -> _Staff:
    threads = threads_for(count)
    return _Staff(Processes(count) if options.ray is None else Cluster(options.ray, count, threads), count, threads)


def _work(grid: Grid, options: CompareOptions, staff: _Staff, stop: StopRequest, board: Board) -> dict[str, str]:
    schedule = Schedule(
        grid, staff.workers, count=staff.count, threads=staff.threads, retries=options.retries, board=board
    )
    try:
        failed = schedule.run(stop)
        if stop.signal_number:
            board.say("stopping: running cells save their state")
            staff.workers.finish_saving()
            raise _stopped(grid, stop, schedule.unsaved())
        return failed
    finally:
        staff.workers.stop()
        board.close()


def _stopped(grid: Grid, stop: StopRequest, unsaved: list[str]) -> Stopped:
    """The message on what is saved after a stop."""
    said = f"stopped; everything is saved in {grid.folder}. The same command continues from there"
    if unsaved:
        names = ", ".join(unsaved)
        said = (
            f"stopped; not saved in time: {names}. These resume from their last checkpoints; everything else "
            f"is saved in {grid.folder}. The same command continues from there"
        )
    return Stopped(said, stop.signal_number)


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
