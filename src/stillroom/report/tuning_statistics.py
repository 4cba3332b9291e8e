"""Statistics of a tuning: who is ahead after how many trials, the expected best of n trials, importance of parameters.

All of them use the scores at the first rung, which all trials have, and count the trials of a method as exchangeable:
the chances are over the orders in which these trials could have come. The search does learn from earlier trials, so its
later trials tend to be better; that is not modelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np

from stillroom.errors import InputError
from stillroom.extras import require
from stillroom.report.tuning_record import Trial, Tuning, Value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST = 4  # trials; with fewer, importance is not computed


@dataclass(frozen=True)
class Step:
    """One finished run of a method's search.

    Attributes:
        epochs: spent so far, this run included.
        best: the highest score so far, at any rung, in percent; 0 before the first run with a score.
    """

    epochs: int
    best: float


def best_so_far(tuning: Tuning, method: str) -> tuple[Step, ...]:
    """The best score of a method against the epochs spent, in the order of the search: rung by rung, by number.

    Args:
        tuning: as recorded so far.
        method: its label.
    """
    steps, spent, best = [], 0, 0.0
    for epochs in tuning.budget.rungs:
        for trial in tuning.of_method(method):
            if epochs in trial.scores or epochs in trial.problems:
                spent, best = spent + epochs, max(best, trial.scores.get(epochs, 0.0))
                steps.append(Step(spent, best))
    return tuple(steps)


def first_scores(tuning: Tuning) -> dict[str, tuple[float, ...]]:
    """The scores at the first rung by method, by number of the trial; a trial that failed counts as 0 %."""
    first = tuning.budget.rungs[0]
    found = {}
    for method in tuning.methods:
        ended = [trial for trial in tuning.of_method(method) if first in trial.scores or first in trial.problems]
        found[method] = tuple(trial.scores.get(first, 0.0) for trial in ended)
    return found


def budgets_of(scores: Mapping[str, Sequence[float]]) -> tuple[int, ...]:
    """The numbers of trials that are shown: 1, 2, 4, 8, … and as many as every method has."""
    most = min(map(len, scores.values()), default=0)
    return tuple(sorted({n for n in (*(2**i for i in range(most.bit_length())), most) if 0 < n <= most}))


def chances_ahead(scores: Mapping[str, Sequence[float]], trials: int) -> dict[str, float]:
    """The probability of each method to have the best trial, after some trials of each; they sum to 1.

    It is exact: over all orders of each method's trials, independently of the other methods' orders. With all trials it
    is 1 for the method with the best one. Methods that tie divide the probability among them.

    Args:
        scores: in percent, by method.
        trials: number of trials of each method, from 1 to the smallest number of its scores.
    """
    values = np.unique(np.concatenate([np.asarray(s, dtype=np.float64) for s in scores.values()]))
    equal = {method: _chances_of_best(s, trials, values) for method, s in scores.items()}
    below = {method: np.cumsum(p) - p for method, p in equal.items()}
    found = {}
    for method, own in equal.items():
        others = [other for other in scores if other != method]
        total = 0.0
        for place, p in enumerate(own):
            ties = np.ones(1)  # ties[k]: probability that k others have this best, and the rest a lower one
            for other in others:
                ties = np.convolve(ties, [below[other][place], equal[other][place]])
            total += p * float(np.sum(ties / np.arange(1, len(ties) + 1)))
        found[method] = total
    return found


def expected_best(scores: Sequence[float], trials: int) -> float:
    """The expected highest score of some trials, over all orders of the trials.

    The measure is that of Dodge et al., "Show Your Work" (EMNLP 2019), without replacement, which makes it unbiased
    (Tang et al., "Showing Your Work Doesn't Always Work", ACL 2020).

    Args:
        scores: of one method, in percent.
        trials: from 1 to the number of scores.
    """
    values = np.unique(np.asarray(scores, dtype=np.float64))
    return float(values @ _chances_of_best(scores, trials, values))


def _chances_of_best(scores: Sequence[float], trials: int, values: np.ndarray) -> np.ndarray:
    """The probability of each of the sorted values to be the best of the trials drawn without replacement."""
    if not 1 <= trials <= len(scores):
        raise ValueError(f"trials={trials}: give 1 to {len(scores)}, the number of scores")
    up_to = np.searchsorted(np.sort(scores), values, side="right")  # number of scores that are not higher
    chances = np.array([comb(int(count), trials) / comb(len(scores), trials) for count in up_to])
    return np.diff(chances, prepend=0.0)


def importances(tuning: Tuning, method: str) -> dict[str, float]:
    """How much of the variance of the score at the first rung each parameter explains, by fANOVA; they sum to 1.

    The estimate is Optuna's (Hutter et al., ICML 2014), with a fixed seed. With few trials it is rough.

    Args:
        tuning: with finished trials.
        method: its label.

    Returns:
        By parameter, the most important first.

    Raises:
        InputError: it cannot be computed: too few trials have a score, all have the same, no parameter varies, or
            Optuna is missing.
    """
    first = tuning.budget.rungs[0]
    scored = [trial for trial in tuning.of_method(method) if first in trial.scores]
    if len(scored) < FEWEST:
        raise InputError(f"it requires {FEWEST} trials with a score, and {method} has {len(scored)}")
    if len({trial.scores[first] for trial in scored}) == 1:
        raise InputError(f"all trials of {method} have the same score")
    varied = [name for name in scored[0].values if len({trial.values.get(name) for trial in scored}) > 1]
    if not varied:
        raise InputError(f"no parameter of {method} was varied")
    require("the importance of parameters", "tune", ("optuna",))
    return _fanova(scored, varied, first, tuning.spaces.get(method, {}))


def _fanova(
    trials: Sequence[Trial], names: Sequence[str], rung: int, space: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    import optuna

    ranges = {name: _distribution([trial.values[name] for trial in trials], space.get(name, {})) for name in names}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line about each study would be printed
    try:
        study = optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)
    study.add_trials(
        optuna.trial.create_trial(
            params={name: trial.values[name] for name in names}, distributions=ranges, value=trial.scores[rung]
        )
        for trial in trials
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(value) for name, value in sorted(found.items(), key=lambda one: -one[1])}


def _distribution(values: Sequence[Value], space: Mapping[str, Any]) -> BaseDistribution:
    """The distribution of a parameter between its smallest and its largest value."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        return CategoricalDistribution(sorted(set(values), key=str))
    low, high = min(numbers), max(numbers)
    logarithmic = low > 0 and ("times" in space or bool(space.get("log")))
    if all(isinstance(value, int) for value in numbers):
        return IntDistribution(int(low), int(high), log=logarithmic)
    return FloatDistribution(low, high, log=logarithmic)
