"""The table of runs that the terminal shows: one row a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from stillroom.engine.run_folder import RunFolder
from stillroom.formatting import duration

COLUMNS = ("run", "parameters", "best %", "last %", "agreement %", "train time", "images/s")


@dataclass(frozen=True)
class Row:
    """One run in numbers.

    Attributes:
        name: of the run folder.
        parameters: of the trained model.
        best: highest validation accuracy of any epoch, in percent; None if it was not measured.
        last: validation accuracy after the last epoch, in percent; None if it was not measured.
        agreement: fraction of validation images on which student and teacher predict the same class, in percent.
        seconds: spent in training steps.
        speed: training images a second, median over the epochs.
    """

    name: str
    parameters: int
    best: float | None
    last: float | None
    agreement: float | None
    seconds: float
    speed: float

    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of :data:`COLUMNS`."""
        return (
            self.name,
            f"{self.parameters:,}",
            *("–" if value is None else f"{value:.2f}" for value in (self.best, self.last, self.agreement)),
            duration(self.seconds),
            f"{self.speed:,.0f}",
        )


def read_row(run: RunFolder) -> Row:
    """The numbers of a finished run.

    Raises:
        InputError: if it is not finished.
    """
    summary = run.summary()
    speeds = sorted(row["images_per_second"] for row in run.epochs())
    return Row(
        name=run.path.name,
        parameters=summary["parameters"],
        best=summary["best"]["val_top1"],
        last=summary["last"]["val_top1"],
        agreement=summary["last"]["agreement"],
        seconds=summary["seconds"],
        speed=speeds[len(speeds) // 2],
    )


def summary_table(runs: Sequence[RunFolder]) -> Table:
    """The table for a terminal; each teacher is measured on the validation images of its student's run."""
    table = Table(title="validation accuracy, best and last epoch", title_justify="left")
    for place, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if place else "left", no_wrap=True)
    for cells in _teachers(runs):
        table.add_row(*cells)
    for run in runs:
        table.add_row(*read_row(run).cells())
    return table


def _teachers(runs: Sequence[RunFolder]) -> list[tuple[str, ...]]:
    """A row for each teacher that has none of its own: its accuracy on the validation images of its student's run."""
    listed = {run.path.resolve() for run in runs}
    found = {}
    for run in runs:
        config, summary = run.config(), run.summary()
        scored = summary.get("teacher")
        if scored and Path(str(config.get("teacher"))).resolve() not in listed:
            numbers = (f"{summary['teacher_parameters']:,}", "–", f"{scored['top1']:.2f}", "–", "–", "–")
            found[config.get("teacher_weights"), numbers] = ("teacher", *numbers)
    return list(found.values())


def short_nats(divergence: float) -> str:
    """A divergence with three decimals; a large one, of a student that diverged, as 5.2e+12."""
    return f"{divergence:.3f}" if divergence < 1000 else f"{divergence:.1e}"


def signed(value: float, digits: int) -> str:
    """A number with its sign, the minus as wide as the plus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def escape_markdown(text: object) -> str:
    """Text with its Markdown characters escaped, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(str(text).split()))
