"""A comparison from its options to its tables and its page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from stillroom.compare.dry_run import check
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
from stillroom.runtime.signals import StopRequest, listen
from stillroom.trust import Trust, given

BYTES_PER_RUN = 2 * 10**9  # a process with PyTorch, a small set of images and two small models


@dataclass(frozen=True)
class Compared:
    """What a comparison gives back.

    Attributes:
        folder: holds a run folder a cell, ``comparison.yaml`` and the page.
        comparison: the finished runs by pair, method and seed, for :func:`stillroom.report.summary.summarize`.
        failed: cells that failed, each with its problem in one line.
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
    """Train every cell of a grid that is not finished yet.

    Args:
        options: pairs, methods, seeds and how to work.
        settings: what all runs have in common: settings of the data, the optimizer and the run.
        make: makes the board that shows the progress.
        trust: what is permitted for models and methods; None permits those of ``options``, as the caller's own.

    Raises:
        InputError: for anything that cannot work, before training begins; or if every cell failed.
        Stopped: after Ctrl-C, SIGTERM or SIGHUP; its message says what is saved.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("a comparison starts its own processes: call it without torchrun, with jobs= or ray=")
    require("a comparison", "report")
    trust = given(names_of(options)) if trust is None else trust
    grid = make_grid(options, settings, trust)
    joined_record(grid)
    if options.page:
        refuse_foreign(grid.folder / "index.html", PAGE, "name=")
    todo = [cell for cell in grid.cells if not is_done(grid, cell)]
    count = min(len(todo), options.jobs or jobs_here())
    notes = check(grid, todo, copies=count if options.ray in (None, "local") else 1)
    failed: dict[str, str] = {}
    with _alone_in(grid.folder), listen() as stop:
        record = joined_record(grid)  # as others left it
        if todo:
            workers = _workers(options, count)  # nothing is written where there are none
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
    """What lies ahead, in a line."""
    finished = len(grid.cells) - todo
    before = f", {finished:,} finished already" if finished else ""
    work = f"{staff.count} at a time, {counted(staff.threads, 'thread')} each"
    return f"{grid.folder.name}: {counted(len(grid.cells), 'run')}{before}; {work}"


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other comparisons out of a folder, which is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}); choose another runs= folder") from error
    try:
        with locked(folder / ".lock"):
            yield
    finally:
        with suppress(OSError):
            folder.rmdir()  # only if nothing came of it


@dataclass(frozen=True)
class _Staff:
    """Workers, how many runs they do at a time, and the threads of each run."""

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
            board.say("stopping: the runs that are going on save themselves")
            staff.workers.finish_saving()
            raise _stopped(grid, stop, schedule.unsaved())
        return failed
    finally:
        staff.workers.stop()
        board.close()


def _stopped(grid: Grid, stop: StopRequest, unsaved: list[str]) -> Stopped:
    """What became of the runs, in words."""
    said = f"stopped; everything is saved in {grid.folder}. The same command goes on from there"
    if unsaved:
        names = ", ".join(unsaved)
        said = (
            f"stopped; ended before they could save: {names}. They go on from their last checkpoints; everything else "
            f"is saved in {grid.folder}. The same command goes on from there"
        )
    return Stopped(said, stop.signal_number)


def jobs_here() -> int:
    """How many runs this process may work on at a time: one a GPU, else one a core as far as memory reaches."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return max(1, min(_cores(physical=True), int(psutil.virtual_memory().available // BYTES_PER_RUN)))


def threads_for(count: int) -> int:
    """Threads of each of so many runs: as many as the user asked for, else an equal part of the cores.

    Args:
        count: runs at the same time, >= 1.
    """
    if any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")):
        return torch.get_num_threads()  # PyTorch has read it, as it does for `stillroom train`
    return max(1, _cores(physical=False) // count)


def _cores(*, physical: bool) -> int:
    """Cores that this process may use, which its affinity or its container may make fewer than the machine has."""
    import joblib

    return int(joblib.cpu_count(only_physical_cores=physical))
