"""A comparison in numbers and words: what every method reached, and whether it differs from the reference."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rich.table import Table

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.formatting import counted, duration
from stillroom.report.aggregate import Cell, Comparison, Pair
from stillroom.report.metrics import Measures, TeacherMeasures, measure, measure_teacher
from stillroom.report.predictions import answers, teacher_refusal, teacher_trouble
from stillroom.report.provenance import apart
from stillroom.report.runs_table import short_nats, signed
from stillroom.report.statistics import LEVEL, Difference, adjusted, image_difference, paired_difference
from stillroom.report.usable_runs import LeftOut, accuracy_of
from stillroom.trust import UntrustedError


@dataclass(frozen=True)
class MethodSummary:
    """One method of a pair over all its seeds.

    Attributes:
        method: its label.
        seeds: in increasing order.
        measures: of each seed's run.
        last_mean: accuracy after the last epoch, mean over seeds, in percent.
        last_sd: its standard deviation over seeds (with n - 1), in points; None for one seed.
        best_mean: as last_mean, of each run's best epoch.
        best_sd: as last_sd, of each run's best epoch.
        difference: of the last epoch from the reference; None for the reference and where a pair has none.
        per_class_gain: mean over common seeds of each class's accuracy minus the reference's, in points; None as for
            difference and without a common seed.
        published: accuracy in percent that a recipe reports, if there is one.
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
        Of each pair that has a run whose model and images can be brought back; the others are left out of it.

    Raises:
        UntrustedError: no run of a pair can be measured without an import that was not permitted.
        InputError: there is no such run.
    """
    say = say or (lambda _: None)
    found = [_summarize(pair, comparison.reference, say) for pair in comparison.pairs]
    for problem in found:
        if isinstance(problem, UntrustedError):  # for the user to decide, not to be left out
            raise problem
    summaries = tuple(summary for summary in found if isinstance(summary, PairSummary))
    if not summaries:
        raise next(error for error in found if isinstance(error, InputError))
    return summaries


def _summarize(pair: Pair, reference: str, say: Callable[[str], None]) -> PairSummary | InputError:
    measures: dict[str, dict[int, Measures]] = {}
    kept, left_out, problem = [], list(pair.left_out), None
    for cell in pair.cells:
        say(f"measuring {cell.run.path.name}")
        try:
            measures.setdefault(cell.method, {})[cell.seed] = measure(cell.run)
            kept.append(cell)
        except InputError as error:
            problem = problem or error
            left_out.append(LeftOut(cell.run.path.name, str(error), cell.method, cell.seed, accuracy_of(cell.run)))
    if problem is not None and not kept:
        return problem
    measures = {method: by_seed for method, by_seed in measures.items() if by_seed}
    pair = replace(pair, cells=tuple(kept), left_out=tuple(left_out))
    others = [method for method in pair.methods if method != reference] if reference in measures else []
    differences = dict(
        zip(others, adjusted([_difference(pair, method, reference, measures) for method in others]), strict=True)
    )
    methods = []
    for method in pair.methods:
        by_seed = dict(sorted(measures[method].items()))
        last, best = ([getattr(one, name) for one in by_seed.values()] for name in ("last", "best"))
        methods.append(
            MethodSummary(
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
        )
    return PairSummary(pair, _teacher(pair, say), tuple(methods))


def _teacher(pair: Pair, say: Callable[[str], None]) -> TeacherMeasures | None:
    say(f"measuring the teacher of {pair.name}")
    found = (measure_teacher(cell.run, pair.teacher_run) for cell in pair.cells)
    return next((teacher for teacher in found if teacher is not None), None)


def left_out(comparison: Comparison, summaries: Sequence[PairSummary]) -> list[LeftOut]:
    """Every run that was found, is finished and takes part in no number, once."""
    of_pairs = [one for summary in summaries for one in summary.pair.left_out]
    measured = {cell.run.path for summary in summaries for cell in summary.pair.cells}
    told = {one.name for one in of_pairs}
    of_pairs += [
        LeftOut(cell.run.path.name, _unmeasured(cell.run), cell.method, cell.seed, accuracy_of(cell.run))
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
    """Over common seeds; with one of them, over its images."""
    sides = ({seed: one.last for seed, one in measures[name].items()} for name in (method, reference))
    difference = paired_difference(*sides)
    if difference.seeds != 1:
        return difference
    ours, theirs = _of_common_seed(pair, method, reference)
    if "best" in (ours.run.summary().get("exported"), theirs.run.summary().get("exported")):
        return difference  # the answers at hand are not those of the last epoch
    return image_difference(answers(ours.run).correct, answers(theirs.run).correct)


def _of_common_seed(pair: Pair, method: str, reference: str) -> tuple[Cell, Cell]:
    theirs = {cell.seed: cell for cell in pair.runs(reference)}
    return next((cell, theirs[cell.seed]) for cell in pair.runs(method) if cell.seed in theirs)


def _gain(ours: dict[int, Measures], reference: dict[int, Measures]) -> tuple[float, ...] | None:
    both = [
        [mine - theirs for mine, theirs in zip(ours[seed].per_class, reference[seed].per_class, strict=True)]
        for seed in ours.keys() & reference.keys()
    ]
    return tuple(statistics.fmean(gains) for gains in zip(*both, strict=True)) or None


def verdict(summary: PairSummary, reference: str) -> list[str]:
    """The result of a pair in plain sentences.

    Args:
        summary: from :func:`summarize`.
        reference: the label of the method that the others were compared with.
    """
    ranked = sorted(summary.methods, key=lambda method: -method.last_mean)
    lines = [_ranking(summary, ranked)]
    compared = [(method.method, method.difference) for method in ranked if method.difference is not None]
    for word, opening in (
        ("better", f"Better than {reference}"),
        ("worse", f"Worse than {reference}"),
        ("not distinguishable", f"Not distinguishable from {reference}"),
    ):
        named = [_named(label, difference) for label, difference in compared if difference.verdict == word]
        if named:
            lines.append(f"{opening}: {'; '.join(named)}.")
    lines += [f"{one.sentence}." for one in summary.pair.left_out]
    if reference not in summary.pair.methods:
        lines.append(f"No run of {reference} is finished for this pair, so nothing is compared.")
    if differing := apart(summary.pair):
        lines.append(f"Not all methods ran with the same settings: {'; '.join(differing)}.")
    lines += _basis([difference for _, difference in compared])
    trouble = _teacher_trouble(summary)
    if trouble:
        lines.append(f"The teacher could not be asked again, so the students' loss to it is missing: {trouble}.")
    elif (teacher := summary.teacher) is not None and teacher.macs is None:
        with_teacher = (cell.run for cell in summary.pair.cells if cell.run.config().get("teacher_weights"))
        if (run := next(with_teacher, None)) is not None and (refusal := teacher_refusal(run)):
            lines.append(f"The teacher is missing in what has to build it again (its MACs, its views): {refusal}.")
    return lines


def _teacher_trouble(summary: PairSummary) -> str:
    """Why a run has no loss to its teacher; empty where all have, or there is none."""
    for method in summary.methods:
        for cell, one in zip(summary.pair.runs(method.method), method.measures, strict=True):
            trouble = teacher_trouble(cell.run) if one.kl_to_teacher is None else ""
            if trouble:
                return trouble
    return ""


def _ranking(summary: PairSummary, ranked: Sequence[MethodSummary]) -> str:
    first = ranked[0]
    if len(ranked) == 1:  # there is nothing to rank
        reached = f"reaches {_accuracy(first)}" if len(first.seeds) > 1 else f"reaches {first.last_mean:.2f} %"
        seeds = "" if len(first.seeds) > 1 else f" (seed {first.seeds[0]})"
        text = f"{summary.pair.name}: {first.method} {reached} after the last epoch{seeds}"
    else:
        text = (
            f"{summary.pair.name}: {first.method} has the highest mean accuracy after the last epoch, "
            f"{_accuracy(first)}; {ranked[-1].method} the lowest, {_accuracy(ranked[-1])}"
        )
    if summary.teacher is not None:
        text += f". The teacher reaches {summary.teacher.accuracy:.2f} %"
    if len(ranked) == 1:
        text += ". There is no other method to compare it with"
    return f"{text}."


def _accuracy(method: MethodSummary) -> str:
    return f"{_with_spread(method.last_mean, method.last_sd)} % ({counted(len(method.seeds), 'seed')})"


def _with_spread(mean: float, deviation: float | None) -> str:
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def _named(label: str, difference: Difference) -> str:
    """As in "dkd (+1.20 points, +0.40 to +2.00, p 0.011, 3 seeds)"."""
    if difference.mean is None:
        return f"{label} (no seed in common)"
    facts = [f"{signed(difference.mean, 2)} points"]
    if difference.low is not None and difference.high is not None:
        facts.append(f"{signed(difference.low, 2)} to {signed(difference.high, 2)}")
    p = difference.p if difference.p_adjusted is None else difference.p_adjusted
    facts.append("no test" if p is None else p_text(p))
    facts.append("one seed, over its images" if difference.basis == "images" else counted(difference.seeds, "seed"))
    return f"{label} ({', '.join(facts)})"


def p_text(p: float) -> str:
    """A probability as "p 0.012" or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"


def _basis(differences: Sequence[Difference]) -> list[str]:
    """How the verdicts were reached, and what they cannot say."""
    lines = []
    tested = [difference for difference in differences if difference.p is not None]
    paired = [difference for difference in tested if difference.basis == "seeds"]
    if paired:
        fewest = min(difference.seeds for difference in paired)
        lines.append(
            "Differences are of the last epoch's accuracy, paired over the seeds that both methods have: paired "
            "t-test with its 95 % interval. The exact permutation test stands beside it; "
            f"with {counted(fewest, 'seed')} it cannot go below p {2 / 2**fewest:.3g}."
        )
    if any(difference.basis == "images" for difference in tested):
        lines.append(
            "With one common seed, McNemar's exact test over the validation images takes the place of a test over "
            "seeds. It speaks of these two students on these images, not of the methods: another seed may turn the "
            "order around. Run more seeds to compare methods."
        )
    if any(difference.seeds == 1 and difference.p is None for difference in differences):
        lines.append("One seed in common without its last epoch's weights (export=best) leaves nothing to test.")
    if len(tested) > 1:
        lines.append(
            f"p is corrected for the {len(tested)} comparisons of this pair (Benjamini-Hochberg); a verdict holds at "
            f"{LEVEL:g}."
        )
    elif tested:
        lines.append(f"A verdict holds at p below {LEVEL:g}; one comparison needs no correction.")
    lines.append(
        "The best epoch is chosen by the images it is then measured on, which flatters it; no difference is taken of "
        "it."
    )
    return lines


COLUMNS = ("method", "seeds", "last %", "best %", "points over reference", "p", "verdict", "agreement %", "KL", "ECE %",
           "train time")  # fmt: skip


def summary_table(summary: PairSummary, reference: str) -> Table:
    """The result of a pair for a terminal, one row a method."""
    table = Table(title=f"{summary.pair.name}, compared with {reference}", title_justify="left")
    head, *rows = summary_rows(summary, reference)
    for place, column in enumerate(head):
        table.add_column(column, justify="right" if place else "left", no_wrap=bool(place))
    for row in rows:
        table.add_row(*row)
    return table


def summary_rows(summary: PairSummary, reference: str) -> list[list[str]]:
    """The result of a pair as text: the columns' headings, then one row a method."""
    rows = [[*COLUMNS], *(_row(method, reference) for method in summary.methods)]
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
        method.method,
        str(len(method.seeds)),
        _with_spread(method.last_mean, method.last_sd),
        _with_spread(method.best_mean, method.best_sd),
        points,
        p,
        word,
        _mean([one.agreement for one in method.measures], "{:.2f}".format),
        _mean([one.kl_to_teacher for one in method.measures], short_nats),
        _mean([one.ece for one in method.measures], "{:.2f}".format),
        duration(statistics.fmean(one.seconds for one in method.measures)),
    ]


def _mean(values: Sequence[float | None], text: Callable[[float], str]) -> str:
    there = [value for value in values if value is not None]
    return text(statistics.fmean(there)) if there else "–"
