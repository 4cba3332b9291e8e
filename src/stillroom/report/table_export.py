"""The result as a table in a file: Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from stillroom.errors import InputError
from stillroom.extras import require
from stillroom.files import write_text
from stillroom.formatting import inert_text
from stillroom.report.comparison_table import comparison_rows
from stillroom.report.metrics import NO_PREDICTIONS, Measures
from stillroom.report.own_files import TABLES, refuse_foreign
from stillroom.report.runs_table import escape_markdown
from stillroom.report.summary import PairSummary
from stillroom.report.verdict import verdict


def check_table(path: Path) -> None:
    """Refuse a file whose kind is not known, or that somebody else wrote, before anything is computed.

    Raises:
        InputError: the name ends in none of the known endings, or the file is not one of ours.
    """
    if path.suffix not in MAKERS:
        raise InputError(f"table={path}: the name must end in {', '.join(MAKERS)}")
    refuse_foreign(path, TABLES[path.suffix], "--table")


def write_table(path: Path, summaries: Sequence[PairSummary], reference: str) -> None:
    """Write the pairs' tables to a file.

    ``.md`` and ``.tex`` hold, for each pair, the table of :mod:`stillroom.report.comparison_table` and the verdict.
    ``.csv`` holds one row a run, with unrounded numbers and without those of single classes; where a method was tuned,
    the column ``tuned`` says which were.

    Args:
        path: what stood there stays whole until the new file is.
        summaries: from :func:`stillroom.report.summary.summarize`.
        reference: the label of the method that the others were compared with.

    Raises:
        InputError: as for :func:`check_table`.
    """
    check_table(path)
    require("--table", "report", ("tabulate",))
    write_text(path, MAKERS[path.suffix](summaries, reference))


def _markdown(summaries: Sequence[PairSummary], reference: str) -> str:
    parts = [TABLES[".md"]]
    for summary in summaries:
        rows = [[*map(escape_markdown, row)] for row in comparison_rows(summary, reference)]
        lines = map(escape_markdown, verdict(summary, reference))
        parts += [f"**{escape_markdown(_headline(summary))}**", _tabulated(rows, "pipe"), *lines]
    return "\n\n".join(parts) + "\n"


def _latex(summaries: Sequence[PairSummary], reference: str) -> str:
    parts = [TABLES[".tex"]]
    for summary in summaries:
        remarks = [f"% {' '.join(line.split())}" for line in (_headline(summary), *verdict(summary, reference))]
        parts.append("\n".join([*remarks, _tabulated(comparison_rows(summary, reference), "latex_booktabs")]))
    return "\n\n".join(parts) + "\n"


def _tabulated(rows: Sequence[Sequence[str]], kind: str) -> str:
    from tabulate import tabulate

    head, *body = rows
    alignment = ["left", *["right"] * (len(head) - 1)]
    return tabulate(body, head, tablefmt=kind, colalign=alignment, disable_numparse=True)


def _headline(summary: PairSummary) -> str:
    sizes = f"student {summary.methods[0].measures[0].parameters:,} parameters"
    if summary.teacher is not None:
        score = "" if summary.pair.score.per_image else f"{summary.pair.score.name} "
        sizes = f"teacher {score}{summary.teacher.score:.2f} %, {summary.teacher.parameters:,} parameters; {sizes}"
    return f"{summary.pair.name} ({sizes})"


def _csv(summaries: Sequence[PairSummary], reference: str) -> str:  # noqa: ARG001  rows of runs compare nothing
    score = summaries[0].pair.score  # the same in all
    absent = {"per_class", "further", *(() if score.per_image else NO_PREDICTIONS)}
    names = [field.name for field in fields(Measures) if field.name not in absent]
    names += [one.key for one in score.further]
    names += ["tuned"] if any(summary.pair.tuned for summary in summaries) else []
    file = io.StringIO(newline="")
    writer = csv.DictWriter(
        file, ["teacher", "student", "method", "seed", *names], extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    for summary in summaries:
        place = {"teacher": inert_text(summary.pair.teacher), "student": inert_text(summary.pair.student)}
        for method in summary.methods:
            own = place | {"method": inert_text(method.method), "tuned": method.method in summary.pair.tuned}
            for seed, measures in zip(method.seeds, method.measures, strict=True):
                row: dict[str, Any] = own | {"seed": seed} | asdict(measures)
                writer.writerow(row | dict(measures.further))
    return file.getvalue()


MAKERS: dict[str, Callable[[Sequence[PairSummary], str], str]] = {".md": _markdown, ".tex": _latex, ".csv": _csv}
