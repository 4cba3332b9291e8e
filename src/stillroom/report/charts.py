"""Charts as SVG text for the page. Their colours are CSS variables of the page, for light and dark mode."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stillroom.report.runs_table import signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLOURS = 10  # --c1 ... --c10 in page.css; --c0 is the teacher's
MARKERS = "osD^vP*Xph"
DASHES = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
# Placeholder colours, which the page's variables replace in the SVG.
INK, LINE, GOOD, BAD = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"
VARIABLES = {INK: "var(--soft)", LINE: "var(--line)", GOOD: "var(--good)", BAD: "var(--bad)"} | {
    f"#0a0c{place:02x}": f"var(--c{place})" for place in range(COLOURS + 1)
}
LONGEST_NAME = 24
MOST_BANDS = 8  # curves; more bands would hide each other
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "stillroom",
    "text.parse_math": False,
    "font.size": 10,
}


@dataclass(frozen=True)
class Curve:
    """A quantity over the epochs, of one method.

    Attributes:
        name: of the method.
        place: its number among all, from 0 (the teacher); decides colour, marker and dashes.
        epochs: where it was measured.
        mean: over the seeds.
        low: the smallest of any seed.
        high: the largest of any seed.
    """

    name: str
    place: int
    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class CostPoint:
    """Cost and main score of one method.

    Attributes:
        name: of the method.
        place: its number among all, from 0 (the teacher).
        cost: smaller is better.
        score: the main score in percent; larger is better.
    """

    name: str
    place: int
    cost: float
    score: float


def has_bands(curves: Sequence[Curve]) -> bool:
    """Whether :func:`line_chart` shows how far the seeds of these curves lie apart."""
    return len(curves) <= MOST_BANDS and any(curve.low != curve.high for curve in curves)


def line_chart(curves: Sequence[Curve], label: str, axis: str = "epoch") -> str:
    """Draw curves over the epochs, each with a band from the lowest to the highest seed where there are few.

    Args:
        curves: one a method.
        label: of the vertical axis.
        axis: label of the horizontal one.
    """
    from matplotlib.ticker import FixedLocator, MaxNLocator

    with new_figure(6.4, 3.7 + _legend_height(curves)) as (figure, axes, out):
        lines, bands = {}, has_bands(curves)
        epochs = {epoch for curve in curves for epoch in curve.epochs}
        alone = len(epochs) == 1  # a line through one point is invisible
        for curve in curves:
            style = curve_style(curve.place)
            size = 3.5 if 2 < len(curve.epochs) <= 20 or alone else 0
            (lines[curve.name],) = axes.plot(curve.epochs, curve.mean, markersize=size, **style)
            if bands and curve.low != curve.high:
                axes.fill_between(curve.epochs, curve.low, curve.high, color=style["color"], alpha=0.16, linewidth=0)
        axes.xaxis.set_major_locator(FixedLocator([*epochs]) if alone else MaxNLocator(integer=True))
        axes.set(xlabel=axis, ylabel=label)
        _legend(figure, lines)
    return svg_text(out)


def cost_chart(points: Sequence[CostPoint], label: str, score: str = "accuracy", *, logarithmic: bool = False) -> str:
    """Draw the main score against cost, with a line through the points of the Pareto front.

    Args:
        points: one a method.
        label: of the cost.
        score: name of the main score.
        logarithmic: whether costs grow in equal factors along the axis.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    with new_figure(6.4, 3.7 + _legend_height(points)) as (figure, axes, out):
        best = pareto_front(points)
        axes.plot([p.cost for p in best], [p.score for p in best], color=INK, linewidth=1, linestyle=(0, (1, 2)))
        marks = {}
        for point in points:
            style = curve_style(point.place) | {"linestyle": ""}
            (marks[point.name],) = axes.plot([point.cost], [point.score], markersize=7, **style)
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(0.08)
        axes.set(xlabel=label, ylabel=f"{score}, %")
        _legend(figure, marks)
    return svg_text(out)


def pareto_front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """The Pareto front, cheapest first: points for which no cheaper or equal one scores as high."""
    found: list[CostPoint] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.score)):
        if not found or point.score > found[-1].score:
            found.append(point)
    return found


def gains_chart(gains: Sequence[tuple[str, float]], reach: float) -> str:
    """Draw the gain or loss of each class.

    Args:
        gains: class names with points gained, from the top of the chart downward.
        reach: end of the axis on both sides, equal for charts side by side.
    """
    with new_figure(4.2, 0.75 + 0.24 * len(gains)) as (_, axes, out):
        values = [value for _, value in gains]
        places = range(len(gains))
        axes.barh(places, values, height=0.72, color=[GOOD if value > 0 else BAD for value in values])
        axes.set_yticks(places, [shortened(name) for name, _ in gains], fontsize=9)
        axes.invert_yaxis()
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_xlim(-1.45 * reach, 1.45 * reach)  # room for the numbers
        axes.grid(visible=False, axis="y")
        for place, value in zip(places, values, strict=True):
            side = "left" if value > 0 else "right"
            axes.annotate(
                signed(value, 1), (value, place), (3 if value > 0 else -3, 0), textcoords="offset points",
                ha=side, va="center", fontsize=8, color=INK,
            )  # fmt: skip
        axes.set(xlabel="points")
    return svg_text(out)


def plane_chart(points: Sequence[tuple[float, float]], labels: Sequence[int]) -> str:
    """Draw images as points in the plane, one path a class, so that thousands of points stay small.

    Args:
        points: (x, y), from -1 to 1.
        labels: of each point; its colour is the (label + 1)th, and every second class is drawn hollow.
    """
    places: dict[int, list[str]] = {}
    for (x, y), label in zip(points, labels, strict=True):
        places.setdefault(label, []).append(f"M{100 * x:z.0f} {-100 * y:z.0f}h0")
    paths = []
    for label, moves in sorted(places.items()):
        path = f'<path d="{"".join(moves)}" stroke-linecap="round" fill="none" stroke'
        paths.append(f'{path}="var(--c{label % COLOURS + 1})" stroke-width="5"/>')
        if label % 2:
            paths.append(f'{path}="var(--paper)" stroke-width="2.2"/>')
    left, right, top, bottom = (
        f(values) for values in ([100 * x for x, _ in points], [-100 * y for _, y in points]) for f in (min, max)
    )
    side = max(right - left, bottom - top) + 12
    corner = f"{(left + right - side) / 2:z.0f} {(top + bottom - side) / 2:z.0f}"
    return f'<svg viewBox="{corner} {side:.0f} {side:.0f}">{"".join(paths)}</svg>'


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """A name that fits beside a chart."""
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "…"


def curve_style(place: int) -> dict[str, Any]:
    """Colour, marker and dashes of a method by its number among all; 0 is the teacher."""
    if place == 0:
        return {"color": "#0a0c00", "marker": "s", "linestyle": (0, (1, 1.5)), "linewidth": 1.5}
    turn, colour = divmod(place - 1, COLOURS)
    return {
        "color": f"#0a0c{colour + 1:02x}",
        "marker": MARKERS[(place - 1 + turn) % len(MARKERS)],
        "linestyle": DASHES[(place - 1 + turn) % len(DASHES)],
        "linewidth": 1.6,
    }


@contextmanager
def new_figure(width: float, height: float) -> Iterator[tuple[Figure, Axes, io.StringIO]]:
    """A figure of a size in inches with one pair of axes; it is written to the third value when the block is left."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    out = io.StringIO()
    with rc_context(SETTINGS), warnings.catch_warnings():
        # The browser has fonts for letters that the measuring font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        axes.tick_params(colors=INK)
        axes.grid(color=LINE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(INK)
        yield figure, axes, out
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})


def _legend_columns(names: Sequence[str]) -> int:
    return max(1, min(len(names), 60 // (max((len(shortened(name)) for name in names), default=1) + 6)))


def _legend_height(shown: Sequence[Curve | CostPoint]) -> float:
    """The height of the legend in inches, which is added to the figure."""
    return 0.2 * math.ceil(len(shown) / _legend_columns([one.name for one in shown]))


def _legend(figure: Figure, lines: Mapping[str, Line2D]) -> None:
    names = [shortened(name) for name in lines]
    columns = _legend_columns(names)
    legend = figure.legend(
        lines.values(), ["-"] * len(names), loc="outside lower center", ncols=columns, frameon=False, fontsize=9,
        handlelength=2.4, labelcolor=INK,
    )  # fmt: skip
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)  # as a label, a name with a leading underscore would be left out


def svg_text(out: io.StringIO) -> str:
    """The drawing of :func:`new_figure` as text for the page, with the page's colours."""
    text = out.getvalue()
    # HTML takes no XML prologue, and the metadata block only names vocabularies on the web.
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    # Its style sheet would apply to the whole page.
    text = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = text.replace("<svg ", '<svg stroke-linejoin="round" ', 1)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # ids have to be unique in a page
    return re.sub(r"#0a0[bc][0-9a-f]{2}", lambda found: VARIABLES[found[0]], text)
