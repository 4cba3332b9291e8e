"""A plan: runs to be carried out, all known at the start or following from the results of others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from stillroom.compare.grid import Cell


class Plan(Protocol):
    """The runs of a comparison, which are known from the start, or of a tuning, which follow from results."""

    @property
    def folder(self) -> Path:
        """Contains the runs and their logs."""

    @property
    def cells(self) -> Sequence[Cell]:
        """The runs that are known so far."""

    @property
    def run_count(self) -> int:
        """Number of runs in the end."""

    @property
    def epoch_count(self) -> int:
        """Number of epochs of all runs in the end."""

    def more(self) -> Sequence[Cell]:
        """The cells that follow from the results so far and were not returned before; called after each result."""

    def takes_divergence(self, cell: Cell, problem: str) -> bool:
        """Record that a run diverged, where that is a result; otherwise it is a failure."""

    def has_diverged(self, cell: Cell) -> bool:
        """Whether it is recorded that a cell's run diverged; it is not repeated."""


def is_done(plan: Plan, cell: Cell) -> bool:
    """Whether a cell has its result: its run is finished, with its predictions, or has diverged."""
    return cell.run.complete or plan.has_diverged(cell)
