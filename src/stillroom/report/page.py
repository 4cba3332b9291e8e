"""The page: one self-contained HTML file, readable offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillroom.errors import InputError
from stillroom.extras import require
from stillroom.files import write_text
from stillroom.report.aggregate import Comparison, Pair
from stillroom.report.box_tables import class_table, error_tables
from stillroom.report.charts import plane_chart, shortened
from stillroom.report.close_classes_tables import CloseSection, close_section
from stillroom.report.confusions import Changes, confusion_changes
from stillroom.report.own_files import PAGE, refuse_foreign
from stillroom.report.page_charts import Chart, cost_charts, gain_charts, score_curves
from stillroom.report.page_tables import PageTable, tables_of
from stillroom.report.page_tuning import tuning_section
from stillroom.report.probe_views import ProbeSection, probe_section
from stillroom.report.provenance import Provenance, provenance_of
from stillroom.report.runs_table import signed
from stillroom.report.summary import PairSummary, left_out
from stillroom.report.verdict import verdict
from stillroom.scores import Score

if TYPE_CHECKING:
    import jinja2


@dataclass(frozen=True)
class Views:
    """What helps to understand a pair's students; None where a view cannot be made.

    Attributes:
        alignment: :class:`stillroom.report.views.class_alignment.Alignment`.
        relations: as :func:`stillroom.report.views.class_relations.relate` returns it.
        samples: :class:`stillroom.report.views.example_images.Samples`.
        plane: :class:`stillroom.report.views.feature_plane.Plane`.
        boxes: :class:`stillroom.report.views.box_images.BoxImages`.
        notes: why a view is missing.
    """

    alignment: Any = None
    relations: Any = None
    samples: Any = None
    plane: Any = None
    boxes: Any = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """The page's section on one pair.

    Attributes:
        name: of the pair.
        score: what its runs are compared by.
        places: the number of each method on the page, which decides its colour; the teacher's is 0.
        verdict: sentences.
        tables: that can be sorted.
        curves: over the epochs.
        costs: main score against cost.
        gains: of each class, by method.
        confusions: how they changed, by method.
        close: gains on close classes; None where it cannot be measured.
        by_class: the main score of each class; None where it is not shown.
        errors: tables of error kinds.
        probes: what the students are worth beyond their accuracy.
        views: what helps to understand the students.
        provenance: how the runs were made.
    """

    name: str
    score: Score
    places: Mapping[str, int]
    verdict: list[str]
    tables: list[PageTable]
    curves: list[Chart]
    costs: list[Chart]
    gains: dict[str, Chart]
    confusions: dict[str, Changes]
    close: CloseSection | None
    by_class: PageTable | None
    errors: list[PageTable]
    probes: ProbeSection
    views: Views
    provenance: Provenance


def write_report(
    path: Path,
    comparison: Comparison,
    summaries: Sequence[PairSummary],
    *,
    views: bool = True,
    groups: Mapping[str, frozenset[str]] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the page of a comparison.

    Args:
        path: the HTML file, replaced in one step.
        comparison: from :func:`stillroom.report.aggregate.read_comparison`.
        summaries: of its pairs, from :func:`stillroom.report.summary.summarize`.
        views: whether to show alignment, relations, example images and feature planes, which runs every student again.
        groups: class names of each group of close classes; None takes those of WordNet.
        say: told the progress, a line at a time.

    Raises:
        InputError: a run has no predictions, a package is missing, or the file was not written by Stillroom.
    """
    networks = views and any(summary.pair.score.per_image for summary in summaries)
    packages = ("captum", "sklearn", "threadpoolctl") if networks else ()
    require("a page", "report", ("jinja2", "matplotlib", *packages))
    refuse_foreign(path, PAGE, "--out")
    labels = dict.fromkeys(method for summary in summaries for method in summary.pair.methods)
    labels |= dict.fromkeys(method for tuning in comparison.tunings for method in tuning.methods)
    places = {label: place for place, label in enumerate(labels, start=1)} | {"teacher": 0}
    sections = [_section(summary, comparison.reference, places, views, groups, say) for summary in summaries]
    text = _template().render(
        mark=PAGE,
        title=comparison.title,
        reference=comparison.reference,
        sections=sections,
        tunings=[tuning_section(one, places, several=len(comparison.tunings) > 1) for one in comparison.tunings],
        overview=_overview(summaries),
        unfinished=comparison.unfinished,
        left_out=left_out(comparison, summaries),
    )
    write_text(path, text)


def _template() -> jinja2.Template:
    import jinja2

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


def _percent(fraction: float) -> str:
    """A fraction in whole percent; a small one is "< 1 %", not 0."""
    return "< 1 %" if 0 < fraction < 0.01 else f"{100 * fraction:.0f} %"


def _section(
    summary: PairSummary,
    reference: str,
    places: Mapping[str, int],
    views: bool,
    groups: Mapping[str, frozenset[str]] | None,
    say: Callable[[str], None],
) -> Section:
    pair = summary.pair
    say(f"drawing {pair.name}")
    close = close_section(pair, reference, groups) if pair.score.per_image else None
    return Section(
        name=pair.name,
        score=pair.score,
        places=places,
        verdict=[*verdict(summary, reference), *(close.verdict if close else ())],
        tables=tables_of(summary, reference),
        curves=score_curves(summary, places),
        costs=cost_charts(summary, places),
        gains=gain_charts(summary, reference),
        confusions=confusion_changes(pair, reference) if pair.score.per_image else {},
        close=close,
        by_class=None if pair.score.per_image else class_table(summary, reference),
        errors=[] if pair.score.per_image else error_tables(summary, reference),
        probes=probe_section(pair, reference, places) if pair.score.per_image else ProbeSection(),
        views=_views(pair, reference, say) if views else Views(),
        provenance=provenance_of(pair),
    )


def _overview(summaries: Sequence[PairSummary]) -> dict[str, list[str]]:
    """The main score after the last epoch of every method (row) with every pair (column); empty for one pair."""
    if len(summaries) < 2:
        return {}
    labels = dict.fromkeys(method for summary in summaries for method in summary.pair.methods)
    rows = {"teacher": [f"{s.teacher.score:.2f}" if s.teacher else "–" for s in summaries]}
    for label in labels:
        found = [next((one for one in s.methods if one.method == label), None) for s in summaries]
        rows[label] = [
            "–" if one is None else f"{one.last_mean:.2f}" + ("" if one.last_sd is None else f" ± {one.last_sd:.2f}")
            for one in found
        ]
    return rows


def _views(pair: Pair, reference: str, say: Callable[[str], None]) -> Views:
    from stillroom.report.views.box_images import box_images_of
    from stillroom.report.views.class_alignment import alignment_of
    from stillroom.report.views.class_relations import relations_of
    from stillroom.report.views.example_images import samples_of
    from stillroom.report.views.feature_plane import plane_of
    from stillroom.report.views.view_models import missing_teacher

    makers: dict[str, tuple[str, Callable[[Pair], Any]]] = (
        {
            "alignment": ("alignment with the teacher", alignment_of),
            "relations": ("relation explorer", relations_of),
            "samples": ("chosen images", partial(samples_of, reference=reference)),
            "plane": ("features in the plane", plane_of),
        }
        if pair.score.per_image
        else {"boxes": ("chosen images", box_images_of)}
    )
    made: dict[str, Any] = {}
    missing: dict[str, list[str]] = {}
    for name, (title, make) in makers.items():
        say(f"{title}: {pair.name}")
        try:
            made[name] = make(pair)
        except InputError as error:
            missing.setdefault(str(error), []).append(title)
    notes = [f"Not shown: {' and '.join(titles)}, because {why}." for why, titles in missing.items()]
    if pair.score.per_image and not missing and (why := missing_teacher(pair)):
        notes.append(f"The views that need a network leave out the teacher: {why}.")
    return Views(**made, notes=tuple(notes))
