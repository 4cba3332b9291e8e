"""A comparison in numbers: what every method reached, and whether it differs from the reference."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from stillroom.engine.predictions import predictions_of
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.extras import require
from stillroom.report.aggregate import Comparison, Pair, PlacedRun
from stillroom.report.metrics import Measures, TeacherMeasures, measure, measure_teacher
from stillroom.report.statistics import Difference, adjusted, image_difference, paired_difference
from stillroom.report.usable_runs import LeftOut, last_score


@dataclass(frozen=True)
class MethodSummary:
    """One method of a pair over all its seeds.

    Attributes:
        method: its label.
        seeds: in increasing order.
        measures: of each seed's run.
        last_mean: main score after the last epoch, mean over seeds, in percent.
        last_sd: its standard deviation over seeds (with n - 1), in points; None for one seed.
        best_mean: as last_mean, of each run's best epoch.
        best_sd: as last_sd, of each run's best epoch.
        difference: of the last epoch from the reference; None for the reference and where a pair has none.
        per_class_gain: mean over common seeds of each class's score minus the reference's, in points; None as for
            difference, without a common seed, and where a class's score is not known.
        published: main score in percent that a recipe reports, if there is one.
    """

    method: str
    seeds: tuple[int, ...]
    measures: tuple[Measures, ...]
    last_mean: float
    last_sd: float | None
    best_mean: float
    best_sd: float | None
    difference: Difference | None
    per_class_gain: tuple[float, ...] | None
    published: float | None


@dataclass(frozen=True)
class PairSummary:
    """One pair in numbers.

    Attributes:
        pair: the pair.
        teacher: on the pair's own validation images; None where no run had one.
        methods: in the pair's order.
    """

    pair: Pair
    teacher: TeacherMeasures | None
    methods: tuple[MethodSummary, ...]


def summarize(comparison: Comparison, say: Callable[[str], None] | None = None) -> tuple[PairSummary, ...]:
    """Measure every run and compare every method with the reference.

    Args:
        comparison: from :func:`stillroom.report.aggregate.read_comparison`.
        say: told which run is being measured.

    Returns:
        Of each pair that has a run with predictions; nothing for a tuning without final runs.

    Raises:
        InputError: there are pairs and no such run, or a package is missing.
    """
    require("a report", "report", ("scipy", "torchmetrics"))
    say = say or (lambda _: None)
    found = [_summarize(pair, comparison.reference, say) for pair in comparison.pairs]
    summaries = tuple(summary for summary in found if isinstance(summary, PairSummary))
    if not summaries and found:
        raise next(error for error in found if isinstance(error, InputError))
    return summaries


def _summarize(pair: Pair, reference: str, say: Callable[[str], None]) -> PairSummary | InputError:
    """A pair in numbers, or why none of its runs has any."""
    measures: dict[str, dict[int, Measures]] = {}
    kept, left_out, problem = [], list(pair.left_out), None
    for cell in pair.cells:
        say(f"measuring {cell.run.path.name}")
        try:
            measures.setdefault(cell.method, {})[cell.seed] = measure(cell.run)
            kept.append(cell)
        except InputError as error:
            problem = problem or error
            left_out.append(LeftOut(cell.run.path.name, str(error), cell.method, cell.seed, last_score(cell.run)))
    if problem is not None and not kept:
        return problem
    pair = replace(pair, cells=tuple(kept), left_out=tuple(left_out))
    return PairSummary(pair, _teacher(pair, say), tuple(_methods(pair, reference, measures)))


def _methods(pair: Pair, reference: str, measures: dict[str, dict[int, Measures]]) -> Iterator[MethodSummary]:
    """Each method over its seeds, compared with the reference."""
    others = [method for method in pair.methods if method != reference] if measures.get(reference) else []
    found = adjusted([_difference(pair, method, reference, measures) for method in others])
    differences = dict(zip(others, found, strict=True))
    for method in pair.methods:
        by_seed = dict(sorted(measures[method].items()))
        last, best = ([getattr(one, name) for one in by_seed.values()] for name in ("last", "best"))
        yield MethodSummary(
            method=method,
            seeds=tuple(by_seed),
            measures=tuple(by_seed.values()),
            last_mean=statistics.fmean(last),
            last_sd=_deviation(last),
            best_mean=statistics.fmean(best),
            best_sd=_deviation(best),
            difference=differences.get(method),
            per_class_gain=_gain(by_seed, measures[reference]) if method in differences else None,
            published=pair.published.get(method),
        )


def _teacher(pair: Pair, say: Callable[[str], None]) -> TeacherMeasures | None:
    say(f"measuring the teacher of {pair.name}")
    found = (measure_teacher(cell.run, pair.teacher_run) for cell in pair.cells)
    return next((teacher for teacher in found if teacher is not None), None)


def left_out(comparison: Comparison, summaries: Sequence[PairSummary]) -> list[LeftOut]:
    """Every finished run that was found and takes part in no number, once."""
    of_pairs = [one for summary in summaries for one in summary.pair.left_out]
    measured = {cell.run.path for summary in summaries for cell in summary.pair.cells}
    told = {one.name for one in of_pairs}
    of_pairs += [
        LeftOut(cell.run.path.name, _unmeasured(cell.run), cell.method, cell.seed, last_score(cell.run))
        for pair in comparison.pairs
        for cell in pair.cells
        if cell.run.path not in measured and cell.run.path.name not in told
    ]
    return list(dict.fromkeys([*comparison.left_out, *of_pairs]))


def _unmeasured(run: RunFolder) -> str:
    """Why a run of a pair that has no numbers at all has none."""
    try:
        measure(run)
    except InputError as error:
        return str(error)
    return "no other run of its pair could be measured"


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _difference(pair: Pair, method: str, reference: str, measures: dict[str, dict[int, Measures]]) -> Difference:
    """Over common seeds; with one of them over its images, where the score is a mean over images."""
    sides = ({seed: one.last for seed, one in measures[name].items()} for name in (method, reference))
    difference = paired_difference(*sides)
    if difference.seeds != 1 or not pair.score.per_image:
        return difference
    ours, theirs = _of_common_seed(pair, method, reference)
    if "best" in (ours.run.summary().get("exported"), theirs.run.summary().get("exported")):
        return difference  # the predictions at hand are not those of the last epoch
    return image_difference(predictions_of(ours.run).correct, predictions_of(theirs.run).correct)


def _of_common_seed(pair: Pair, method: str, reference: str) -> tuple[PlacedRun, PlacedRun]:
    theirs = {cell.seed: cell for cell in pair.runs(reference)}
    return next((cell, theirs[cell.seed]) for cell in pair.runs(method) if cell.seed in theirs)


def _gain(ours: dict[int, Measures], reference: dict[int, Measures]) -> tuple[float, ...] | None:
    both = [
        [
            mine - theirs if mine is not None and theirs is not None else 0.0  # no object of this class
            for mine, theirs in zip(ours[seed].per_class, reference[seed].per_class, strict=True)
        ]
        for seed in ours.keys() & reference.keys()
        if len(ours[seed].per_class) == len(reference[seed].per_class)
    ]
    return tuple(statistics.fmean(gains) for gains in zip(*both, strict=True)) or None
