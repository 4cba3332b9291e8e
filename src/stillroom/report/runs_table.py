"""The table of runs that the terminal shows: one row a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from stillroom.engine.run_folder import RunFolder
from stillroom.formatting import duration
from stillroom.scores import score_of_row

COLUMNS = ("run", "parameters", "best %", "last %", "agreement %", "train time", "images/s")


@dataclass(frozen=True)
class Row:
    """One run in numbers.

    Attributes:
        name: of the run folder.
        parameters: of the trained model.
        best: highest main score of any epoch, in percent; None if it was not measured.
        last: main score after the last epoch, in percent; None if it was not measured.
        agreement: fraction of validation images on which student and teacher predict the same class, in percent; None
            where there is none.
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
    score = score_of_row(summary["last"])
    speeds = sorted(row["images_per_second"] for row in run.epochs())
    return Row(
        name=run.path.name,
        parameters=summary["parameters"],
        best=summary["best"][score.column],
        last=summary["last"][score.column],
        agreement=summary["last"]["agreement"] if score.per_image else None,
        seconds=summary["seconds"],
        speed=speeds[len(speeds) // 2],
    )


def summary_table(runs: Sequence[RunFolder]) -> Table:
    """The table for a terminal; each teacher is measured on the validation images of its student's run.

    Args:
        runs: finished ones of the same task.
    """
    score = score_of_row(runs[0].summary()["last"])
    table = Table(title=f"{score.words}, best and last epoch", title_justify="left")
    shown = [place for place, column in enumerate(COLUMNS) if score.per_image or column != "agreement %"]
    for place in shown:
        table.add_column(COLUMNS[place], justify="right" if place else "left", no_wrap=True)
    for cells in (*_teachers(runs), *(read_row(run).cells() for run in runs)):
        table.add_row(*(cells[place] for place in shown))
    return table


def _teachers(runs: Sequence[RunFolder]) -> list[tuple[str, ...]]:
    """A row for each teacher that has none of its own: its score on the validation images of its student's run."""
    listed = {run.path.resolve() for run in runs}
    found = {}
    for run in runs:
        config, summary = run.config(), run.summary()
        scored = summary.get("teacher")
        if scored and Path(str(config.get("teacher"))).resolve() not in listed:
            numbers = (
                f"{summary['teacher_parameters']:,}",
                "–",
                f"{scored[score_of_row(summary['last']).key]:.2f}",
                "–",
                "–",
                "–",
            )
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
