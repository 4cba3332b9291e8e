"""What a person sees while a comparison is worked on: cells done, running and failed, and the time left."""

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


class Board(Protocol):
    """What the comparison tells; implementations only show it."""

    def update(self, running: Iterable[Cell], failed: Mapping[str, str]) -> None:
        """Look again, a few times a second."""

    def done(self, cell: Cell) -> None:
        """A cell is finished."""

    def say(self, text: str) -> None:
        """Anything else worth a line."""

    def close(self) -> None:
        """It is over, whatever the outcome."""


class Clock:
    """How much work is left, counted in epochs, and about how long it takes at the pace so far.

    Args:
        grid: the comparison.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.total = sum(cell.epochs for cell in grid.cells)
        self.begin, self.before = time.monotonic(), self.epochs_done()

    def epochs_done(self) -> int:
        """Finished epochs of all cells, as their run folders say."""
        return sum(
            cell.epochs if self.grid.run(cell).finished else len(rows_of(self.grid, cell)) for cell in self.grid.cells
        )

    def seconds_left(self, done: int) -> float | None:
        """A guess; None while there is nothing to guess from."""
        fresh = done - self.before
        return (time.monotonic() - self.begin) / fresh * (self.total - done) if fresh > 0 else None

    def left(self, done: int) -> str:
        """The guess in words."""
        seconds = self.seconds_left(done) if done < self.total else None
        return "" if seconds is None else f"about {duration(max(seconds, 1))} left"


def rows_of(grid: Grid, cell: Cell) -> list[dict[str, Any]]:
    """The epochs a cell's run has finished; none for one that has not begun, or whose record is damaged."""
    try:
        return grid.run(cell).epochs()
    except InputError:
        return []


def _accuracy(rows: list[dict[str, Any]], digits: int = 2) -> str:
    """The validation accuracy of the latest epoch, if it is known."""
    value = rows[-1].get("val_top1") if rows else None
    return f"{value:.{digits}f} %" if isinstance(value, float | int) else "accuracy unknown"


class Lines:
    """One line a finished cell, for logs and pipes.

    Args:
        grid: the comparison.
        write: receives each line.
    """

    def __init__(self, grid: Grid, write: Callable[[str], object]) -> None:
        self._grid, self._write, self._clock = grid, write, Clock(grid)
        self._failed: set[str] = set()

    def update(self, running: Iterable[Cell], failed: Mapping[str, str]) -> None:  # noqa: ARG002
        """Say what failed since the last time."""
        for name in failed.keys() - self._failed:
            self._write(f"{name} failed: {failed[name]}")
        self._failed = set(failed)

    def done(self, cell: Cell) -> None:
        """Print the cell's accuracy and what is left."""
        count = sum(self._grid.run(other).finished for other in self._grid.cells)
        left = self._clock.left(self._clock.epochs_done())
        self._write(
            f"{count}/{len(self._grid.cells)} {cell.name}: {_accuracy(rows_of(self._grid, cell))}"
            + (f", {left}" if left else "")
        )

    def say(self, text: str) -> None:
        """Print it."""
        self._write(text)

    def close(self) -> None:
        """Nothing is left open."""


class Screen:
    """One board that is drawn anew in its place.

    Args:
        grid: the comparison.
        console: where to draw.
    """

    def __init__(self, grid: Grid, console: Console) -> None:
        self._grid, self._clock = grid, Clock(grid)
        self._live = Live(console=console, refresh_per_second=4)
        self._live.start()

    def update(self, running: Iterable[Cell], failed: Mapping[str, str]) -> None:
        """Draw it."""
        cells, epochs = self._grid.cells, self._clock.epochs_done()
        finished = sum(self._grid.run(cell).finished for cell in cells)
        head = Text(f"{finished} of {counted(len(cells), 'run')} done  {self._clock.left(epochs)}")
        if failed:
            head.append(f"  {len(failed)} failed", style="bold red")
        table = Table.grid(padding=(0, 2))
        for cell in running:
            rows = rows_of(self._grid, cell)
            accuracy = f"val {_accuracy(rows, 1)}" if rows else ""
            table.add_row(cell.name, f"epoch {min(len(rows) + 1, cell.epochs)}/{cell.epochs}", accuracy)
        bad = [
            Text(f"{name}: {problem}", style="red", overflow="ellipsis", no_wrap=True)
            for name, problem in failed.items()
        ]
        self._live.update(
            Group(head, ProgressBar(total=self._clock.total, completed=epochs, width=60), table, *bad[-5:])
        )

    def done(self, cell: Cell) -> None:
        """The next drawing shows it."""

    def say(self, text: str) -> None:
        """Print above the board."""
        self._live.console.print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the board as it stands."""
        self._live.stop()


def make_board(grid: Grid) -> Board:
    """A board on a terminal, lines elsewhere."""
    console = make_console(stderr=True)
    if console.is_terminal:
        return Screen(grid, console)
    return Lines(grid, lambda text: print(text, file=sys.stderr, flush=True))
