"""The page's section "Beyond accuracy": what the probes of a pair found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillroom.report.aggregate import Pair
from stillroom.report.charts import INK, curve_style, new_figure, svg_text
from stillroom.report.page_charts import Chart
from stillroom.report.page_tables import PageTable
from stillroom.report.probe_record import Results
from stillroom.report.probe_tables import probe_tables, probes_of
from stillroom.report.robustness_views import RobustnessView, robustness_views

FEWEST = 5  # images of a bin that is drawn; fewer say little about its accuracy


@dataclass(frozen=True)
class ProbeSection:
    """What the page shows of a pair's probes.

    Attributes:
        tables: one for each probe and set.
        reliability: the reliability diagram of the teacher and of each method.
        robustness: accuracy by corruption and by severity, for each set.
        notes: why something is missing.
    """

    tables: tuple[PageTable, ...] = ()
    reliability: Mapping[str, Chart] | None = None
    robustness: tuple[RobustnessView, ...] = ()
    notes: tuple[str, ...] = ()


def probe_section(pair: Pair, reference: str, places: Mapping[str, int]) -> ProbeSection:
    """What the records of a pair's runs hold; nothing where no run was probed.

    Args:
        pair: the pair.
        reference: the label of the method that relative numbers are relative to.
        places: the number of each method on the page, which decides its colour; the teacher's is 0.
    """
    probes = probes_of(pair)
    shown: dict[str, list[Results]] = {}
    for on in probes.sets("calibration"):
        teacher = probes.teacher.get("calibration", {}).get(on)
        shown |= {} if teacher is None else {"teacher": [teacher.results]}
        shown |= {method: list(found.values()) for method, found in probes.results("calibration", on).items()}
    diagrams = {name: _reliability(name, results, places[name]) for name, results in shown.items() if name in places}
    robustness = tuple(robustness_views(pair.methods, probes, places))
    return ProbeSection(tuple(probe_tables(pair, probes, reference)), diagrams, robustness, probes.notes)


def _reliability(name: str, results: Sequence[Results], place: int) -> Chart:
    bins = joined_bins([one["bins"] for one in results])
    gaps = [one for one in bins if one["count"] >= FEWEST]
    over = sum(one["count"] for one in gaps if one["confidence"] > one["accuracy"])
    total = sum(one["count"] for one in bins)
    caption = f"{100 * over / max(total, 1):.0f} % of the images are in bins that are overconfident."
    each = "; ".join(f"{100 * one['confidence']:.0f} % sure, {100 * one['accuracy']:.0f} % correct" for one in gaps)
    return Chart(reliability_chart(bins, place), f"{name}: {caption} {each}", caption)


def joined_bins(diagrams: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The bins of several runs as one diagram: counts add up, confidence and accuracy are means over all images."""
    joined = []
    for same in zip(*diagrams, strict=True):
        count = sum(one["count"] for one in same)
        row: dict[str, Any] = {"count": count}
        for key in ("confidence", "accuracy"):
            row[key] = sum(one["count"] * one[key] for one in same if one["count"]) / count if count else None
        joined.append(row)
    return joined


def reliability_chart(bins: Sequence[Mapping[str, Any]], place: int) -> str:
    """Draw accuracy against confidence; the larger a point, the more images are in its bin.

    Args:
        bins: ``count``, ``confidence`` and ``accuracy``; those of fewer than five images are left out.
        place: the number of the method, which decides its colour.
    """
    points = [(one["confidence"], one["accuracy"], one["count"]) for one in bins if one["count"] >= FEWEST]
    total = sum(one["count"] for one in bins)
    colour = curve_style(place)["color"]
    with new_figure(3.4, 3.0) as (_, axes, out):
        axes.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle=(0, (1, 2)))
        for confidence, accuracy, count in points:
            ends = [100 * confidence, 100 * accuracy]
            axes.plot([ends[0]] * 2, ends, color=colour, linewidth=1, alpha=0.6)
            size = 3 + 9 * (count / total) ** 0.5
            axes.plot(ends[:1], ends[1:], color=colour, marker="o", markersize=size, linestyle="")
        axes.set(xlabel="confidence, %", ylabel="accuracy, %", xlim=(0, 102), ylim=(0, 102))
    return svg_text(out)
