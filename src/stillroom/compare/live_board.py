"""The progress display of a comparison: cells done, running and failed, and the time left."""

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

from stillroom.compare.grid import Cell, Grid
from stillroom.errors import InputError
from stillroom.formatting import counted, duration
from stillroom.runtime.reporters import make_console
from stillroom.scores import score_of_row, score_text


class Board(Protocol):
    """Shows the progress of a comparison."""

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
        grid: the comparison.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.total = sum(cell.epochs for cell in grid.cells)
        self.begin, self.before = time.monotonic(), self.epochs_done()

    def epochs_done(self) -> int:
        """Number of finished epochs of all cells, from their run folders."""
        return sum(
            cell.epochs if self.grid.run(cell).finished else len(epochs_of(self.grid, cell)) for cell in self.grid.cells
        )

    def seconds_left(self, done: int) -> float | None:
        """Estimated seconds left; None before the first epoch is finished."""
        fresh = done - self.before
        return (time.monotonic() - self.begin) / fresh * (self.total - done) if fresh > 0 else None

    def left(self, done: int) -> str:
        """The estimate in words."""
        seconds = self.seconds_left(done) if done < self.total else None
        return "" if seconds is None else f"about {duration(max(seconds, 1))} left"


def epochs_of(grid: Grid, cell: Cell) -> list[dict[str, Any]]:
    """The records of a cell's finished epochs; empty for a run that has not begun or whose record is damaged."""
    try:
        return grid.run(cell).epochs()
    except InputError:
        return []


def _score(rows: list[dict[str, Any]], digits: int = 2) -> str:
    """The main score of the latest epoch in words."""
    latest = rows[-1] if rows else {}
    return score_text(latest, digits) or f"{score_of_row(latest).name} unknown"


class LineBoard:
    """One line per finished cell, for logs and pipes.

    Args:
        grid: the comparison.
        write: receives each line.
    """

    def __init__(self, grid: Grid, write: Callable[[str], object]) -> None:
        self._grid, self._write, self._clock = grid, write, Clock(grid)
        self._failed: set[str] = set()

    def update(self, running: Iterable[Cell], failed: Mapping[str, str]) -> None:  # noqa: ARG002
        """Report new failures."""
        for name in failed.keys() - self._failed:
            self._write(f"{name} failed: {failed[name]}")
        self._failed = set(failed)

    def done(self, cell: Cell) -> None:
        """Print the cell's main score and the time left."""
        count = sum(self._grid.run(other).finished for other in self._grid.cells)
        left = self._clock.left(self._clock.epochs_done())
        self._write(
            f"{count}/{len(self._grid.cells)} {cell.name}: {_score(epochs_of(self._grid, cell))}"
            + (f", {left}" if left else "")
        )

    def say(self, text: str) -> None:
        """Print the message."""
        self._write(text)

    def close(self) -> None:
        """Do nothing: no display is open."""


class ScreenBoard:
    """A display that is redrawn in place, for terminals.

    Args:
        grid: the comparison.
        console: where to draw.
    """

    def __init__(self, grid: Grid, console: Console) -> None:
        self._grid, self._clock = grid, Clock(grid)
        self._live = Live(console=console, refresh_per_second=4)
        self._live.start()

    def update(self, running: Iterable[Cell], failed: Mapping[str, str]) -> None:
        """Redraw."""
        cells, epochs = self._grid.cells, self._clock.epochs_done()
        finished = sum(self._grid.run(cell).finished for cell in cells)
        head = Text(f"{finished} of {counted(len(cells), 'run')} done  {self._clock.left(epochs)}")
        if failed:
            head.append(f"  {len(failed)} failed", style="bold red")
        table = Table.grid(padding=(0, 2))
        for cell in running:
            rows = epochs_of(self._grid, cell)
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


def make_board(grid: Grid) -> Board:
    """Return a :class:`ScreenBoard` on a terminal, :class:`LineBoard` elsewhere."""
    console = make_console(stderr=True)
    if console.is_terminal:
        return ScreenBoard(grid, console)
    return LineBoard(grid, lambda text: print(text, file=sys.stderr, flush=True))
