"""The result of a comparison in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from stillroom.engine.predictions import teacher_trouble
from stillroom.formatting import counted
from stillroom.report.provenance import differing_settings
from stillroom.report.runs_table import signed
from stillroom.report.statistics import LEVEL, Difference
from stillroom.report.summary import MethodSummary, PairSummary
from stillroom.report.tuning_verdict import tuning_sentences
from stillroom.scores import Score


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
    lines += tuning_sentences(summary.pair)
    if differing := differing_settings(summary.pair):
        lines.append(f"Not all methods ran with the same settings: {'; '.join(differing)}.")
    score = summary.pair.score
    lines += [*_basis([difference for _, difference in compared], score), _best_epoch(summary)]
    if trouble := _teacher_trouble(summary):
        lines.append(f"The students' KL divergence from the teacher is missing: {trouble}.")
    return lines


def _teacher_trouble(summary: PairSummary) -> str:
    """Why a run has no KL divergence from its teacher; empty where all have one, or there is no teacher."""
    for method in summary.methods:
        for cell, one in zip(summary.pair.runs(method.method), method.measures, strict=True):
            needed = summary.pair.score.per_image and one.kl_to_teacher is None
            trouble = teacher_trouble(cell.run) if needed else ""
            if trouble:
                return trouble
    return ""


def _ranking(summary: PairSummary, ranked: Sequence[MethodSummary]) -> str:
    first, score = ranked[0], summary.pair.score
    reading = "" if score.per_image else f"{score.name} "  # a percentage alone would be read as accuracy
    if len(ranked) == 1:  # there is nothing to rank
        reached = f"reaches {reading}" + (_in_words(first) if len(first.seeds) > 1 else f"{first.last_mean:.2f} %")
        seeds = "" if len(first.seeds) > 1 else f" (seed {first.seeds[0]})"
        text = f"{summary.pair.name}: {first.method} {reached} after the last epoch{seeds}"
    else:
        text = (
            f"{summary.pair.name}: {first.method} has the highest mean {score.name} after the last epoch, "
            f"{_in_words(first)}; {ranked[-1].method} the lowest, {_in_words(ranked[-1])}"
        )
    if summary.teacher is not None:
        text += f". The teacher reaches {reading}{summary.teacher.score:.2f} %"
    if len(ranked) == 1:
        text += ". There is no other method to compare it with"
    return f"{text}."


def _in_words(method: MethodSummary) -> str:
    return f"{with_spread(method.last_mean, method.last_sd)} % ({counted(len(method.seeds), 'seed')})"


def with_spread(mean: float, deviation: float | None) -> str:
    """A mean with its standard deviation, as in "72.45 ± 0.47"; without one, the mean alone."""
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


def _basis(differences: Sequence[Difference], score: Score) -> list[str]:
    """How the verdicts were reached, and what they cannot say."""
    lines = []
    tested = [difference for difference in differences if difference.p is not None]
    paired = [difference for difference in tested if difference.basis == "seeds"]
    if paired:
        fewest = min(difference.seeds for difference in paired)
        lines.append(
            f"Differences are of the {score.name} after the last epoch, paired over common seeds: paired t-test with "
            "its 95 % confidence interval. The table also gives the exact permutation test; "
            f"with {counted(fewest, 'seed')} its p is at least {2 / 2**fewest:.3g}."
        )
    if any(difference.basis == "images" for difference in tested):
        lines.append(
            "With one common seed, McNemar's exact test over the validation images replaces the test over seeds. It "
            "compares these two students on these images, not the methods: another seed may reverse the order. Run "
            "more seeds to compare methods."
        )
    if any(difference.seeds == 1 and difference.p is None for difference in differences):
        lines.append(
            "With one common seed and predictions of the best epoch only (export=best), there is nothing to test."
            if score.per_image
            else f"With one common seed there is nothing to test: {score.name} is no mean over images. Run more seeds."
        )
    if len(tested) > 1:
        lines.append(
            f"p is corrected for the {len(tested)} comparisons of this pair (Benjamini-Hochberg). The significance "
            f"level is {LEVEL:g}."
        )
    elif tested:
        lines.append(f"The significance level is {LEVEL:g}. One comparison needs no correction.")
    return lines


def _best_epoch(summary: PairSummary) -> str:
    """On which images the best epochs were selected."""
    if all("early_stop" in cell.run.summary() for cell in summary.pair.cells):
        return "The best epoch is selected on training images that were held out (patience), and not compared."
    return (
        f"The best epoch is selected on the validation set, so its {summary.pair.score.name} is optimistically biased "
        "and not compared."
    )
