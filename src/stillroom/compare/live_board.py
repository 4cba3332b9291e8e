"""The progress display of a comparison or a tuning: runs done, running and failed, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stillroom.compare.grid import Cell
from stillroom.compare.plan import Plan
from stillroom.errors import InputError
from stillroom.formatting import counted, duration
from stillroom.runtime.reporters import make_console
from stillroom.scores import score_of_row, score_text


class Board(Protocol):
    """Shows the progress of a plan."""

    def update(self, running: Iterable[Cell], failed: Mapping[str, str]) -> None:
        """Refresh; called a few times a second."""

    def done(self, cell: Cell) -> None:
        """Report a finished cell."""

    def say(self, text: str) -> None:
        """Show a message of one line."""

    def close(self) -> None:
        """End the display, whatever the outcome."""


class Clock:
    """Estimate of the time left, from the number of epochs left and the speed so far.

    Args:
        plan: the runs.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.total = plan.epoch_count
        self.begin, self.before = time.monotonic(), self.epochs_done()

    def epochs_done(self) -> int:
        """Number of finished epochs of all cells, from their run folders; a run that diverged counts as a whole one."""
        plan = self.plan
        return sum(cell.epochs if has_ended(plan, cell) else len(epochs_of(cell)) for cell in plan.cells)

    def seconds_left(self, done: int) -> float | None:
        """Estimated seconds left; None before the first epoch is finished."""
        fresh = done - self.before
        return (time.monotonic() - self.begin) / fresh * (self.total - done) if fresh > 0 else None

    def left(self, done: int) -> str:
        """The estimate in words."""
        seconds = self.seconds_left(done) if done < self.total else None
        return "" if seconds is None else f"about {duration(max(seconds, 1))} left"


def has_ended(plan: Plan, cell: Cell) -> bool:
    """Whether a cell's run is finished or has diverged."""
    return cell.run.finished or plan.has_diverged(cell)


def epochs_of(cell: Cell) -> list[dict[str, Any]]:
    """The records of a cell's finished epochs; empty for a run that has not begun or whose record is damaged."""
    try:
        return cell.run.epochs()
    except InputError:
        return []


def _score(rows: list[dict[str, Any]], digits: int = 2) -> str:
    """The main score of the latest epoch in words."""
    latest = rows[-1] if rows else {}
    return score_text(latest, digits) or f"{score_of_row(latest).name} unknown"


class LineBoard:
    """One line per finished cell, for logs and pipes.

    Args:
        plan: the runs.
        write: receives each line.
    """

    def __init__(self, plan: Plan, write: Callable[[str], object]) -> None:
        self._plan, self._write, self._clock = plan, write, Clock(plan)
        self._failed: set[str] = set()

    def update(self, running: Iterable[Cell], failed: Mapping[str, str]) -> None:  # noqa: ARG002
        """Report new failures."""
        for name in failed.keys() - self._failed:
            self._write(f"{name} failed: {failed[name]}")
        self._failed = set(failed)

    def done(self, cell: Cell) -> None:
        """Print the cell's main score and the time left."""
        count = sum(has_ended(self._plan, other) for other in self._plan.cells)
        left = self._clock.left(self._clock.epochs_done())
        self._write(
            f"{count}/{self._plan.run_count} {cell.name}: {_score(epochs_of(cell))}" + (f", {left}" if left else "")
        )

    def say(self, text: str) -> None:
        """Print the message."""
        self._write(text)

    def close(self) -> None:
        """Do nothing: no display is open."""


class ScreenBoard:
    """A display that is redrawn in place, for terminals.

    Args:
        plan: the runs.
        console: where to draw.
    """

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan, self._clock = plan, Clock(plan)
        self._live = Live(console=console, refresh_per_second=4)
        self._live.start()

    def update(self, running: Iterable[Cell], failed: Mapping[str, str]) -> None:
        """Redraw."""
        plan, epochs = self._plan, self._clock.epochs_done()
        finished = sum(has_ended(plan, cell) for cell in plan.cells)
        head = Text(f"{finished} of {counted(plan.run_count, 'run')} done  {self._clock.left(epochs)}")
        if failed:
            head.append(f"  {len(failed)} failed", style="bold red")
        table = Table.grid(padding=(0, 2))
        for cell in running:
            rows = epochs_of(cell)
            score = f"val {_score(rows, 1)}" if rows else ""
            table.add_row(cell.name, f"epoch {min(len(rows) + 1, cell.epochs)}/{cell.epochs}", score)
        bad = [
            Text(f"{name}: {problem}", style="red", overflow="ellipsis", no_wrap=True)
            for name, problem in failed.items()
        ]
        self._live.update(
            Group(head, ProgressBar(total=self._clock.total, completed=epochs, width=60), table, *bad[-5:])
        )

    def done(self, cell: Cell) -> None:
        """Do nothing: the next redraw shows it."""

    def say(self, text: str) -> None:
        """Print the message above the display."""
        self._live.console.print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Stop redrawing."""
        self._live.stop()


def make_board(plan: Plan) -> Board:
    """Return a :class:`ScreenBoard` on a terminal, :class:`LineBoard` elsewhere."""
    console = make_console(stderr=True)
    if console.is_terminal:
        return ScreenBoard(plan, console)
    return LineBoard(plan, lambda text: print(text, file=sys.stderr, flush=True))
