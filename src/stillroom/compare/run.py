"""Run a comparison: make the grid, check every cell, train, and read the results."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.compare.carry_out import alone_in, carry_out, stopped_in
from stillroom.compare.cell_checks import check_cells
from stillroom.compare.grid import Grid, make_grid
from stillroom.compare.grid_record import joined_record, write_record
from stillroom.compare.live_board import Board, make_board
from stillroom.compare.options import CompareOptions, names_of
from stillroom.compare.plan import is_done
from stillroom.compare.workers import Staff, jobs_here, make_staff
from stillroom.errors import InputError
from stillroom.extras import require
from stillroom.formatting import counted
from stillroom.report.aggregate import Comparison, read_comparison
from stillroom.report.own_files import PAGE, refuse_foreign
from stillroom.runtime.signals import stop_requests
from stillroom.trust import Trust, given


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
    with alone_in(grid.folder), stop_requests() as stop:
        record = joined_record(grid)  # another process may have written it since
        if todo:
            staff = make_staff(options.ray, count)  # before anything is written, for this may fail
            write_record(grid.folder, record)
            board = make(grid)
            board.say(_opening(grid, len(todo), staff))
            for note in notes:
                board.say(note)
            failed = carry_out(grid, staff, stop, board, options.retries)
        else:
            write_record(grid.folder, record)
        if stop.signal_number:
            raise stopped_in(grid.folder, stop)
    if len(failed) == len(grid.cells):
        raise InputError(f"every run failed; the first: {next(iter(failed.values()))}")
    return Compared(grid.folder, read_comparison([grid.folder], options.reference, trust=trust), failed)


def _opening(grid: Grid, todo: int, staff: Staff) -> str:
    """One line on what will be done."""
    finished = len(grid.cells) - todo
    before = f", {finished:,} finished already" if finished else ""
    return f"{grid.folder.name}: {counted(len(grid.cells), 'run')}{before}; {staff.words}"
