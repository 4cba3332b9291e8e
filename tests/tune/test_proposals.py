from __future__ import annotations

import pytest

from stillroom.tune.parameter_range import Range
from stillroom.tune.proposals import GENERATION, propose, results_needed

RANGES = {
    "lr": Range(default=0.1, low=0.025, high=0.4, log=True),
    "ldrld.depth": Range(default=7, low=2, high=16, log=True, whole=True),
    "ldrld.chosen_by": Range(default="student", choices=("student", "teacher")),
}


def shown(values):
    """A score that is best at a small learning rate."""
    return 100 * (0.4 - values["lr"])


def searched(count, seed=0):
    results = []
    for number in range(count):
        known = results[: results_needed(number)]
        values = propose(RANGES, seed, "LDRLD", number, known)
        results.append((values, shown(values)))
    return [values for values, _ in results]


@pytest.fixture(scope="module")
def trials():
    pytest.importorskip("optuna")
    return searched(10)


def test_the_first_trial_has_the_defaults_and_the_others_are_inside_with_four_digits(trials):
    assert trials[0] == {"lr": 0.1, "ldrld.depth": 7, "ldrld.chosen_by": "student"}
    for values in trials:
        assert all(value in RANGES[name] for name, value in values.items())
        assert values["lr"] == float(f"{values['lr']:.4g}")
        assert type(values["ldrld.depth"]) is int


def test_proposals_follow_from_seed_and_results_alone(trials):
    assert searched(10) == trials
    assert searched(10, seed=1) != trials


def test_later_generations_learn_from_earlier_ones(trials):
    first, last = trials[1:GENERATION], trials[GENERATION:]
    assert max(shown(values) for values in last) > max(shown(values) for values in first)
    worse = [(values, -shown(values)) for values in trials[:8]]
    assert propose(RANGES, 0, "LDRLD", 8, worse) != trials[8]


def test_trials_of_one_generation_need_the_same_results():
    assert [results_needed(number) for number in range(9)] == [0, 0, 0, 0, 4, 4, 4, 4, 8]
