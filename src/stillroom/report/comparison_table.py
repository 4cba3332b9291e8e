"""The table of a comparison for a terminal and for files: one row a method."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from rich.table import Table

from stillroom.formatting import duration
from stillroom.report.runs_table import short_nats, signed
from stillroom.report.summary import MethodSummary, PairSummary
from stillroom.report.verdict import p_text, with_spread
from stillroom.scores import Score

COLUMNS = ("method", "seeds", "last %", "best %", "points over reference", "p", "verdict")
OF_PREDICTIONS = ("agreement %", "KL", "ECE %")


def comparison_table(summary: PairSummary, reference: str) -> Table:
    """The result of a pair for a terminal, one row a method."""
    table = Table(title=f"{summary.pair.name}, compared with {reference}", title_justify="left")
    head, *rows = comparison_rows(summary, reference)
    for place, column in enumerate(head):
        table.add_column(column, justify="right" if place else "left", no_wrap=bool(place))
    for row in rows:
        table.add_row(*row)
    return table


def comparison_rows(summary: PairSummary, reference: str) -> list[list[str]]:
    """The result of a pair as text: the columns' headings, then one row a method."""
    score = summary.pair.score
    measured = {key for method in summary.methods for one in method.measures for key in one.further}
    further = [one for one in score.further if one.key in measured]
    own = OF_PREDICTIONS if score.per_image else [one.label for one in further]
    rows = [[*COLUMNS, *own, "train time"]]
    for method in summary.methods:
        numbers = _of_predictions(method) if score.per_image else _further(method, further)
        seconds = statistics.fmean(one.seconds for one in method.measures)
        name = f"{method.method} (untuned)" if summary.pair.is_untuned(method.method) else method.method
        rows.append([name, *_row(method, reference), *numbers, duration(seconds)])
    if summary.pair.published:
        published = ["–" if m.published is None else f"{m.published:.2f}" for m in summary.methods]
        for row, cell in zip(rows, ["published %", *published], strict=True):
            row.append(cell)
    return rows


def _row(method: MethodSummary, reference: str) -> list[str]:
    difference = method.difference
    points = p = word = "–"
    if difference is not None:
        word = difference.verdict
        chance = difference.p if difference.p_adjusted is None else difference.p_adjusted
        p = "–" if chance is None else p_text(chance).removeprefix("p ")
        points = "–" if difference.mean is None else signed(difference.mean, 2)
        if difference.low is not None and difference.high is not None:
            points += f" ({signed(difference.low, 2)} to {signed(difference.high, 2)})"
    elif method.method == reference:
        word = "reference"
    return [
        str(len(method.seeds)),
        with_spread(method.last_mean, method.last_sd),
        with_spread(method.best_mean, method.best_sd),
        points,
        p,
        word,
    ]


def _of_predictions(method: MethodSummary) -> list[str]:
    """The cells of :data:`OF_PREDICTIONS`."""
    return [
        _mean([one.agreement for one in method.measures], "{:.2f}".format),
        _mean([one.kl_to_teacher for one in method.measures], short_nats),
        _mean([one.ece for one in method.measures], "{:.2f}".format),
    ]


def _further(method: MethodSummary, scores: Sequence[Score]) -> list[str]:
    return [_mean([one.further.get(score.key) for one in method.measures], "{:.2f}".format) for score in scores]


def _mean(values: Sequence[float | None], text: Callable[[float], str]) -> str:
    there = [value for value in values if value is not None]
    return text(statistics.fmean(there)) if there else "–"
