"""The page's charts of one pair, each with its caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from stillroom.engine.run_folder import RunFolder
from stillroom.formatting import duration, short_count
from stillroom.report.charts import CostPoint, Curve, cost_chart, gains_chart, has_bands, line_chart, pareto_front
from stillroom.report.runs_table import signed
from stillroom.report.summary import PairSummary
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


def score_curves(summary: PairSummary, places: Mapping[str, int]) -> list[Chart]:
    """The main score and agreement with the teacher over the epochs, a curve a method.

    Args:
        summary: of the pair.
        places: the number of each method, which decides its colour.
    """
    score = summary.pair.score
    shown = {
        score.column: (f"{score.words}, %", f"Validation {score.name} by epoch"),
        "agreement": ("same prediction as the teacher, %", "Agreement with the teacher's predictions, by epoch"),
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
        if summary.teacher is not None and key == score.column:
            epochs = (min(c.epochs[0] for c in curves), max(c.epochs[-1] for c in curves))
            level = (summary.teacher.score,) * 2
            curves.insert(0, Curve("teacher", 0, epochs, level, level, level))
            ends += f"; the teacher reaches {summary.teacher.score:.1f} %"
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


def cost_charts(summary: PairSummary, places: Mapping[str, int]) -> list[Chart]:
    """The main score against training time, and against MACs where they are known; arguments as above."""
    seconds = {method.method: fmean(one.seconds for one in method.measures) for method in summary.methods}
    size, unit = next((size, unit) for least, size, unit in UNITS if max(seconds.values()) >= least)
    times = [
        CostPoint(one.method, places[one.method], seconds[one.method] / size, one.last_mean) for one in summary.methods
    ]
    macs = [
        CostPoint(one.method, places[one.method], one.measures[0].macs / 1e6, one.last_mean)
        for one in summary.methods
        if one.measures[0].macs is not None
    ]
    if summary.teacher is not None and summary.teacher.macs is not None:
        macs.insert(0, CostPoint("teacher", 0, summary.teacher.macs / 1e6, summary.teacher.score))
    smallest, score = summary.methods[0].measures[0], summary.pair.score
    sizes = f"The student has {short_count(smallest.parameters)} parameters"
    if summary.teacher is not None:
        sizes += f", the teacher {short_count(summary.teacher.parameters)}"
    spent = f"{score.title} after the last epoch against training time, means over seeds"
    filling = sum(cell.run.summary().get("bank_seconds", 0.0) for cell in summary.pair.cells)
    if filling:
        spent += f", without the {duration(filling)} in which teacher logits were computed for the bank"
    drawn = [_cost(times, f"training time, {unit}", spent, score.name)]
    if macs:
        caption = f"{score.title} against the cost of one prediction. {sizes}"
        drawn.append(_cost(macs, "million MACs an image", caption, score.name, logarithmic=True))
    return drawn


def _cost(points: Sequence[CostPoint], label: str, caption: str, score: str, *, logarithmic: bool = False) -> Chart:
    best = ", ".join(point.name for point in pareto_front(points))
    caption += f". Dotted line, the Pareto front: {best}."
    each = "; ".join(f"{point.name} {point.cost:.3g} and {point.score:.1f} %" for point in points)
    return Chart(cost_chart(points, label, score, logarithmic=logarithmic), f"{caption} {label}: {each}.", caption)


def gain_charts(summary: PairSummary, reference: str) -> dict[str, Chart]:
    """The classes whose score differs most from the reference's, by method."""
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
