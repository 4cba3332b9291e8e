"""Successive halving: how long the trials of a method are trained, and how many go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from stillroom.compare.grid import is_trained
from stillroom.compare.options import methods_of
from stillroom.errors import InputError
from stillroom.formatting import counted
from stillroom.report.tuning_record import Budget
from stillroom.tune.tune_options import TuneOptions, compare_options, final_seeds

SHORTEST, MOST_RUNGS = 4, 3  # epochs of the shortest rung, and number of rungs, where none are given


def make_budget(trials: int, epochs: int, eta: int, rungs: Sequence[int] | None = None) -> Budget:
    """The rungs of a search and the number of trials at each.

    Args:
        trials: of each method, at least 1.
        epochs: of the final runs.
        eta: at each rung one in eta of the trials before, at least 1, is trained.
        rungs: lengths in epochs; None for epochs divided by powers of eta.

    Raises:
        InputError: the rungs do not increase, or one is longer than the final runs.
    """
    if rungs is None:
        lengths = [epochs // eta**power for power in range(MOST_RUNGS)]
        rungs = sorted(length for power, length in enumerate(lengths) if power == 0 or length >= SHORTEST)
    if not rungs or any(one >= other for one, other in pairwise(rungs)) or rungs[-1] > epochs:
        raise InputError(f"rungs={list(rungs)}: give increasing numbers of epochs, at most epochs={epochs}")
    return Budget(trials, tuple(rungs), tuple(max(1, trials // eta**place) for place in range(len(rungs))))


def survivors(scores: Mapping[int, float], count: int) -> list[int]:
    """The trials that go on, the best first: those with the highest scores; of equal ones those with the lower number.

    One of two places or more is kept for trial 0, which has the default values: the scores of short runs are noisy, and
    a search should not end below the values that it began with. A trial 0 that diverged has no such place.

    Args:
        scores: by number of the trial; 0 for one that diverged.
        count: how many.
    """
    chosen = sorted(scores, key=lambda number: (-scores[number], number))[:count]
    if count > 1 and 0 not in chosen and scores.get(0, 0) > 0:
        chosen[-1] = 0
    return chosen


def budget_in_words(options: TuneOptions, epochs: int) -> list[str]:
    """What a tuning costs, a line each.

    Args:
        options: of the tuning.
        epochs: of the final runs.

    Raises:
        InputError: as for :func:`make_budget`.
    """
    budget = make_budget(options.trials, epochs, options.eta, options.rungs)
    methods, seeds = len(methods_of(compare_options(options))), len(final_seeds(options))
    total = methods * (budget.epochs + seeds * epochs)
    return [
        f"each method: {counted(budget.trials, 'trial')}, trained for {budget.words} epochs ({budget.epochs:,} in all)",
        f"{counted(methods, 'method')}: {counted(methods * sum(budget.quotas), 'run')} of the search, then "
        f"{counted(methods * seeds, 'final run')} of {counted(epochs, 'epoch')}",
        f"{total:,} epochs of the student{_teacher_words(options)}",
    ]


def _teacher_words(options: TuneOptions) -> str:
    """What is added for a teacher that has to be trained."""
    if not is_trained(compare_options(options), options.teacher):
        return ""
    if options.search_teacher is None:
        return ", beside the teacher, which is trained twice: without the held-out images for the trials, and on all"
    return ", beside those of the teacher"
