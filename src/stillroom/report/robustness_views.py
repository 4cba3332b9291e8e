"""The page's views of robustness: accuracy by corruption, accuracy against severity, an example of each corruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from stillroom.report.charts import Curve, line_chart
from stillroom.report.page_charts import Chart
from stillroom.report.page_tables import Entry, Heading, PageTable, TableRow
from stillroom.report.probe_record import Results
from stillroom.report.probe_tables import PairProbes


@dataclass(frozen=True)
class RobustnessView:
    """What the page shows of robustness on one set.

    Attributes:
        on: the set.
        table: accuracy of each corruption (row) by method (column).
        curve: accuracy against severity; None for a single severity.
        examples: corruption -> an image with it as a data URI, first the image as it is.
    """

    on: str
    table: PageTable
    curve: Chart | None
    examples: Mapping[str, str]


def robustness_views(methods: Sequence[str], probes: PairProbes, places: Mapping[str, int]) -> list[RobustnessView]:
    """One view for each set that robustness was measured on.

    Args:
        methods: in the order of the page.
        probes: of the pair.
        places: the number of each method, which decides its colour; the teacher's is 0.
    """
    views = []
    for on in probes.sets("robustness"):
        teacher = probes.teacher.get("robustness", {}).get(on)
        by_method = probes.results("robustness", on)
        found = {} if teacher is None else {"teacher": [teacher.results]}
        found |= {method: list(by_method[method].values()) for method in methods if method in by_method}
        first = next(iter(found.values()))[0]
        same = {
            name: kept
            for name, results in found.items()
            if name in places and (kept := [one for one in results if one["severities"] == first["severities"]])
        }
        if same:
            views.append(_view(on, same, places))
    return views


def _view(on: str, found: Mapping[str, list[Results]], places: Mapping[str, int]) -> RobustnessView:
    first = next(iter(found.values()))[0]
    kinds, severities = tuple(first["accuracy"]), tuple(first["severities"])
    rows = tuple(
        TableRow(words(kind), "class", tuple(_entry(kind, results) for results in found.values())) for kind in kinds
    )
    heads = tuple(Heading(name, f"accuracy of {name}, mean over the severities, in percent") for name in found)
    examples = next((dict(one["examples"]) for results in found.values() for one in results if one.get("examples")), {})
    return RobustnessView(
        on=on,
        table=PageTable(f"Accuracy by corruption, {on}, %", heads, rows),
        curve=_severity_chart(on, found, severities, places) if len(severities) > 1 else None,
        examples={words(kind): uri for kind, uri in examples.items()},
    )


def words(corruption: str) -> str:
    """The name of a corruption as it is shown."""
    return corruption.replace("_", " ")


def _entry(kind: str, results: Sequence[Results]) -> Entry:
    values = [fmean(one["accuracy"][kind]) for one in results if kind in one["accuracy"]]
    if not values:
        return Entry()
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return Entry(f"{fmean(values):.1f}{spread}", fmean(values))


def _severity_chart(
    on: str, found: Mapping[str, list[Results]], severities: tuple[int, ...], places: Mapping[str, int]
) -> Chart:
    curves = []
    for name, results in found.items():
        seeds = [
            (one["clean"], *(fmean(row[place] for row in one["accuracy"].values()) for place in range(len(severities))))
            for one in results
        ]
        at_each = list(zip(*seeds, strict=True))
        mean, low, high = (tuple(float(of(column)) for column in at_each) for of in (fmean, min, max))
        curves.append(Curve(name, places[name], (0, *severities), mean, low, high))
    ends = "; ".join(f"{curve.name} falls from {curve.mean[0]:.1f} to {curve.mean[-1]:.1f} %" for curve in curves)
    caption = f"Mean accuracy over the corruptions by severity, {on}; 0 is without corruption."
    return Chart(line_chart(curves, "accuracy, %", axis="severity"), f"{caption} {ends}", caption)
