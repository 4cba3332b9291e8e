"""Successive halving: how long the trials of a method are trained, and how many go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from stillroom.errors import InputError
from stillroom.report.tuning_record import Budget

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


def best_of(scores: Mapping[int, float], count: int) -> list[int]:
    """The trials with the highest scores, the best first; of equal ones those with the lower number.

    Args:
        scores: by number of the trial.
        count: how many.
    """
    return sorted(scores, key=lambda number: (-scores[number], number))[:count]
