from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import pytest

from stillroom.errors import InputError
from stillroom.report.tuning_file import read_tuning
from stillroom.report.tuning_record import Trial
from stillroom.report.tuning_statistics import (
    Step,
    best_so_far,
    budgets_of,
    chances_ahead,
    expected_best,
    first_scores,
    importances,
)
from tests.report.tunings import FIRST, made_tuning


def by_enumeration(scores, trials):
    """Every order of every method's trials, one after another."""
    ahead = dict.fromkeys(scores, Fraction(0))
    orders = [list(itertools.permutations(values)) for values in scores.values()]
    count = 0
    for chosen in itertools.product(*orders):
        count += 1
        best = {m: max(order[:trials]) for m, order in zip(scores, chosen, strict=True)}
        leaders = [m for m in scores if best[m] == max(best.values())]
        for m in leaders:
            ahead[m] += Fraction(1, len(leaders))
    return {m: float(total / count) for m, total in ahead.items()}


@pytest.mark.parametrize("trials", [1, 2, 3])
@pytest.mark.parametrize(
    "scores",
    [
        {"a": (1.0, 5.0, 3.0), "b": (2.0, 4.0, 4.5)},
        {"a": (1.0, 5.0, 3.0), "b": (5.0, 3.0, 0.0), "c": (5.0, 5.0, 1.0)},
    ],
    ids=["distinct", "ties"],
)
def test_the_probability_of_being_ahead_is_that_over_all_orders(scores, trials):
    found = chances_ahead(scores, trials)
    assert found == pytest.approx(by_enumeration(scores, trials))
    assert sum(found.values()) == pytest.approx(1)


def test_methods_may_have_different_numbers_of_trials():
    scores = {"a": (1.0, 5.0, 3.0), "b": (2.0, 4.0)}
    assert budgets_of(scores) == (1, 2)
    assert chances_ahead(scores, 2) == pytest.approx(by_enumeration(scores, 2))
    with pytest.raises(ValueError, match="trials=3: give 1 to 2"):
        chances_ahead(scores, 3)


def test_the_expected_best_is_the_mean_over_all_orders():
    scores = (3.0, 1.0, 4.0, 1.0, 5.0)
    for n in range(1, 6):
        orders = list(itertools.permutations(scores))
        assert expected_best(scores, n) == pytest.approx(sum(max(order[:n]) for order in orders) / len(orders))


def test_budgets_double_up_to_the_trials_that_every_method_has():
    assert budgets_of({"a": range(12), "b": range(13)}) == (1, 2, 4, 8, 12)
    assert budgets_of({"a": range(4), "b": range(4)}) == (1, 2, 4)
    assert budgets_of({"a": range(3), "b": ()}) == ()


def test_the_best_so_far_follows_the_search_and_a_trial_that_failed_costs_its_epochs(tmp_path):
    tuning = read_tuning(made_tuning(tmp_path).folder)
    assert best_so_far(tuning, "KD") == (Step(2, 40.0), Step(4, 44.0), Step(6, 44.0), Step(8, 44.0), Step(14, 55.5))
    assert first_scores(tuning) == FIRST
    first, *others = tuning.trials
    failed = replace(tuning, trials=(replace(first, scores={}, problems={2: "Diverged"}), *others))
    assert best_so_far(failed, "KD")[:2] == (Step(2, 0.0), Step(4, 44.0))
    assert first_scores(failed)["KD"] == (0.0, *FIRST["KD"][1:])


def test_the_parameter_that_decides_the_score_is_the_important_one(tmp_path):
    pytest.importorskip("optuna")
    tuning = made_tuning(tmp_path)
    trials = tuple(
        Trial(
            "KD", n, {"lr": 0.1 * (n % 4 + 1), "kind": "ab"[n % 3 > 1], "depth": n % 5, "same": 3}, {2: 10.0 * (n % 4)}
        )
        for n in range(16)
    )
    found = importances(replace(tuning, trials=trials), "KD")
    assert next(iter(found)) == "lr"
    assert set(found) == {"lr", "kind", "depth"}
    assert sum(found.values()) == pytest.approx(1)
    assert found == importances(replace(tuning, trials=trials), "KD")


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ([({"lr": 0.1}, 1.0), ({"lr": 0.2}, 2.0), ({"lr": 0.3}, 3.0)], "requires 4 trials with a score, and KD has 3"),
        ([({"lr": 0.1 * n}, 1.0) for n in range(5)], "all trials of KD have the same score"),
        ([({"lr": 0.1}, 1.0 * n) for n in range(5)], "no parameter of KD was varied"),
    ],
)
def test_an_importance_that_cannot_be_computed_says_why(trials, said, tmp_path):
    tuning = made_tuning(tmp_path)
    rows = tuple(Trial("KD", n, values, {2: score}) for n, (values, score) in enumerate(trials))
    with pytest.raises(InputError, match=said):
        importances(replace(tuning, trials=rows), "KD")
