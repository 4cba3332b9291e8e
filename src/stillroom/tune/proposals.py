"""Proposals: the values of the next trial, by Optuna's TPE, as a function of the seed and of earlier results alone."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from stillroom.report.tuning_record import Value
from stillroom.tune.parameter_range import Range

Result = tuple[Mapping[str, Value], float]

GENERATION = 4  # trials that are proposed from the same results, so that they can be trained at the same time


def results_needed(number: int) -> int:
    """How many trials, the first ones, have to have results before a trial is proposed.

    Args:
        number: of the trial, from 0.
    """
    return number // GENERATION * GENERATION


def propose(
    ranges: Mapping[str, Range],
    seed: int,
    label: str,
    number: int,
    results: Sequence[tuple[Mapping[str, Value], float]],
) -> dict[str, Value]:
    """Propose the values of a trial.

    Args:
        ranges: of the parameters, by name.
        seed: of the search.
        label: of the method.
        number: of the trial; 0 has the default values.
        results: values and score of the trials that :func:`results_needed` counts, in order.

    Returns:
        A value for each parameter, numbers with four significant digits.
    """
    if number == 0:
        return {name: one.default for name, one in ranges.items()}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {name: _distribution(one) for name, one in ranges.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # multivariate is called experimental
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=GENERATION, multivariate=True, seed=_seed_of(seed, label, number)
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for values, score in results:
        study.add_trial(optuna.trial.create_trial(params=dict(values), distributions=distributions, value=score))
    found = study.ask(distributions).params
    return {name: one.rounded(found[name]) for name, one in ranges.items()}


def _seed_of(seed: int, label: str, number: int) -> int:
    digest = hashlib.blake2b(f"{seed} {number} {label}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _distribution(one: Range) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if one.choices:
        return CategoricalDistribution(one.choices)
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log)
    return FloatDistribution(one.low, one.high, log=one.log)
