"""The page: one HTML file with everything inside, readable without a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from statistics import fmean
from typing import Any

import jinja2

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.files import write_text
from stillroom.formatting import duration
from stillroom.report.aggregate import Comparison, Pair
from stillroom.report.charts import (
    Curve,
    Point,
    cost_chart,
    front,
    gains_chart,
    has_bands,
    line_chart,
    plane_chart,
    shortened,
)
from stillroom.report.confusions import Changes, confusion_changes
from stillroom.report.own_files import PAGE, refuse_foreign
from stillroom.report.page_tables import PageTable, short_count, tables_of
from stillroom.report.provenance import Making, making_of
from stillroom.report.runs_table import signed
from stillroom.report.summary import PairSummary, left_out, verdict
from stillroom.report.usable_runs import is_finite

EACH_WAY = 6  # classes with the largest gains, and as many with the largest losses
UNITS = ((5400, 3600, "hours"), (90, 60, "minutes"), (0, 1, "seconds"))


@dataclass(frozen=True)
class Chart:
    """A drawing with its words.

    Attributes:
        svg: the drawing.
        text: what it shows, for those who cannot see it.
        caption: how to read it.
    """

    svg: str
    text: str
    caption: str


@dataclass(frozen=True)
class Views:
    """What lets one understand a pair's students; None where a view cannot be made.

    Attributes:
        alignment: :class:`stillroom.report.views.class_alignment.Alignment`.
        relations: as :func:`stillroom.report.views.class_relations.relate` returns it.
        samples: :class:`stillroom.report.views.example_images.Samples`.
        plane: :class:`stillroom.report.views.feature_plane.Plane`.
        notes: why a view is missing.
    """

    alignment: Any = None
    relations: Any = None
    samples: Any = None
    plane: Any = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """All that the page says of one pair.

    Attributes:
        name: of the pair.
        places: the number of each method among all of the page, which decides its colour; the teacher's is 0.
        verdict: sentences.
        tables: that can be sorted.
        curves: over the epochs.
        costs: accuracy against cost.
        gains: of each class, by method.
        confusions: how they changed, by method.
        views: what lets one understand the students.
        making: how the runs were made.
    """

    name: str
    places: Mapping[str, int]
    verdict: list[str]
    tables: list[PageTable]
    curves: list[Chart]
    costs: list[Chart]
    gains: dict[str, Chart]
    confusions: dict[str, Changes]
    views: Views
    making: Making


def write_report(
    path: Path,
    comparison: Comparison,
    summaries: Sequence[PairSummary],
    *,
    views: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the page of a comparison.

    Args:
        path: the HTML file; what stood there stays whole until the new one is.
        comparison: from :func:`stillroom.report.aggregate.read_comparison`.
        summaries: of its pairs, from :func:`stillroom.report.summary.summarize`.
        views: whether to show alignment, relations, images and feature planes, which asks every student again.
        say: told what is being done, a line at a time.

    Raises:
        InputError: a run's model or images cannot be brought back, or the file is not a page of ours.
    """
    refuse_foreign(path, PAGE, "--out")
    labels = dict.fromkeys(method for summary in summaries for method in summary.pair.methods)
    places = {label: place for place, label in enumerate(labels, start=1)} | {"teacher": 0}
    sections = [_section(summary, comparison.reference, places, views, say) for summary in summaries]
    text = _template().render(
        mark=PAGE,
        title=comparison.title,
        reference=comparison.reference,
        sections=sections,
        overview=_overview(summaries),
        unfinished=comparison.unfinished,
        left_out=left_out(comparison, summaries),
    )
    write_text(path, text)


def _template() -> jinja2.Template:
    pieces = resources.files("stillroom.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (pieces / name).read_text("utf-8")),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False}
    environment.filters |= {"percent": _percent, "signed": signed, "shortened": shortened, "plane": plane_chart}
    return environment.get_template("page.html")


def _percent(share: float) -> str:
    """A share in whole percent; what is not nothing is not called 0."""
    return "< 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def _section(
    summary: PairSummary, reference: str, places: Mapping[str, int], views: bool, say: Callable[[str], None]
) -> Section:
    pair = summary.pair
    say(f"drawing {pair.name}")
    return Section(
        name=pair.name,
        places=places,
        verdict=verdict(summary, reference),
        tables=tables_of(summary, reference),
        curves=_curves(summary, places),
        costs=_costs(summary, places),
        gains=_gains(summary, reference),
        confusions=confusion_changes(pair, reference),
        views=_views(pair, reference, say) if views else Views(),
        making=making_of(pair),
    )


def _overview(summaries: Sequence[PairSummary]) -> dict[str, list[str]]:
    """Last accuracy of every method (row) with every pair, to be seen at once; empty for one pair."""
    if len(summaries) < 2:
        return {}
    labels = dict.fromkeys(method for summary in summaries for method in summary.pair.methods)
    rows = {"teacher": [f"{s.teacher.accuracy:.2f}" if s.teacher else "–" for s in summaries]}
    for label in labels:
        found = [next((one for one in s.methods if one.method == label), None) for s in summaries]
        rows[label] = [
            "–" if one is None else f"{one.last_mean:.2f}" + ("" if one.last_sd is None else f" ± {one.last_sd:.2f}")
            for one in found
        ]
    return rows


def _curves(summary: PairSummary, places: Mapping[str, int]) -> list[Chart]:
    shown = {
        "val_top1": ("validation accuracy, %", "Validation accuracy by epoch"),
        "agreement": ("same answer as the teacher, %", "How often the student gives the teacher's answer, by epoch"),
    }
    charts = []
    for key, (label, caption) in shown.items():
        curves = [
            curve
            for method in summary.pair.methods
            if (curve := _curve(method, places[method], [c.run for c in summary.pair.runs(method)], key)) is not None
        ]
        if not curves:
            continue
        ends = "; ".join(f"{curve.name} ends at {curve.mean[-1]:.1f} %" for curve in curves)
        if summary.teacher is not None and key == "val_top1":
            epochs = (min(c.epochs[0] for c in curves), max(c.epochs[-1] for c in curves))
            level = (summary.teacher.accuracy,) * 2
            curves.insert(0, Curve("teacher", 0, epochs, level, level, level))
            ends += f"; the teacher reaches {summary.teacher.accuracy:.1f} %"
        spread = any(curve.low != curve.high for curve in curves)
        caption += ". Line: mean over seeds" if spread else ". One seed each"
        caption += "; band: lowest to highest seed." if has_bands(curves) else "."
        charts.append(Chart(line_chart(curves, label), f"{caption} {ends}.", caption))
    return charts


def _curve(name: str, place: int, runs: Sequence[RunFolder], key: str) -> Curve | None:
    """A method's curve over the epochs that all of its runs have; None where the quantity was not recorded."""
    rows = [{row["epoch"]: row[key] for row in run.epochs() if is_finite(row.get(key))} for run in runs]
    epochs = sorted(set.intersection(*(set(row) for row in rows)))
    if not epochs:
        return None
    values = [[row[epoch] for row in rows] for epoch in epochs]
    return Curve(
        name, place, tuple(epochs), tuple(map(fmean, values)), tuple(map(min, values)), tuple(map(max, values))
    )  # fmt: skip


def _costs(summary: PairSummary, places: Mapping[str, int]) -> list[Chart]:
    seconds = {method.method: fmean(one.seconds for one in method.measures) for method in summary.methods}
    size, unit = next((size, unit) for least, size, unit in UNITS if max(seconds.values()) >= least)
    times = [
        Point(one.method, places[one.method], seconds[one.method] / size, one.last_mean) for one in summary.methods
    ]
    macs = [Point(m.method, places[m.method], m.measures[0].macs / 1e6, m.last_mean) for m in summary.methods]
    if summary.teacher is not None and summary.teacher.macs is not None:
        macs.insert(0, Point("teacher", 0, summary.teacher.macs / 1e6, summary.teacher.accuracy))
    smallest = summary.methods[0].measures[0]
    sizes = f"The student has {short_count(smallest.parameters)} parameters"
    if summary.teacher is not None:
        sizes += f", the teacher {short_count(summary.teacher.parameters)}"
    spent = "Accuracy after the last epoch against training time, means over seeds"
    filling = sum(cell.run.summary().get("bank_seconds", 0.0) for cell in summary.pair.cells)
    if filling:
        spent += f", without the {duration(filling)} in which the teacher answered for its bank"
    return [
        _cost(times, f"training time, {unit}", spent),
        _cost(macs, "million MACs an image", f"Accuracy against the work of one answer. {sizes}", logarithmic=True),
    ]


def _cost(points: Sequence[Point], label: str, caption: str, *, logarithmic: bool = False) -> Chart:
    best = ", ".join(point.name for point in front(points))
    caption += f". Dotted line, the Pareto front: {best}."
    each = "; ".join(f"{point.name} {point.cost:.3g} and {point.accuracy:.1f} %" for point in points)
    return Chart(cost_chart(points, label, logarithmic=logarithmic), f"{caption} {label}: {each}.", caption)


def _gains(summary: PairSummary, reference: str) -> dict[str, Chart]:
    classes = [str(name) for name in summary.pair.cells[0].run.config()["classes"]]
    ranked = {
        one.method: sorted(zip(classes, one.per_class_gain, strict=True), key=lambda gain: -gain[1])
        for one in summary.methods
        if one.per_class_gain is not None
    }
    reach = max((abs(value) for gains in ranked.values() for _, value in (gains[0], gains[-1])), default=0) or 1.0
    charts = {}
    for method, gains in ranked.items():
        up = [gain for gain in gains[:EACH_WAY] if gain[1] > 0]
        down = [gain for gain in gains[-EACH_WAY:] if gain[1] < 0]
        more, fewer = (sum(sign * value > 0 for _, value in gains) for sign in (1, -1))
        caption = f"{more} of {len(gains)} classes gained over {reference}, {fewer} lost."
        named = "; ".join(f"{name} {signed(value, 1)}" for name, value in up + down)
        drawing = gains_chart(up + down, reach) if up + down else ""
        charts[method] = Chart(drawing, f"{method}: {caption} {named}", caption)
    return charts


def _views(pair: Pair, reference: str, say: Callable[[str], None]) -> Views:
    from stillroom.report.views.class_alignment import alignment_of
    from stillroom.report.views.class_relations import relations_of
    from stillroom.report.views.example_images import samples_of
    from stillroom.report.views.feature_plane import plane_of

    made: dict[str, Any] = {}
    notes = []
    makers: dict[str, Callable[[Pair], Any]] = {
        "alignment": alignment_of,
        "relations": relations_of,
        "samples": partial(samples_of, reference=reference),
        "plane": plane_of,
    }
    for name, make in makers.items():
        say(f"{name} of {pair.name}")
        try:
            made[name] = make(pair)
        except InputError as error:
            notes.append(f"{name} cannot be shown: {error}")
    return Views(**made, notes=tuple(notes))
