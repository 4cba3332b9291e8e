from __future__ import annotations

import pytest

from stillroom.errors import InputError
from stillroom.tune.rungs import make_budget, survivors


@pytest.mark.parametrize(
    ("epochs", "rungs", "quotas"),
    [(12, (4, 12), (12, 4)), (40, (4, 13, 40), (12, 4, 1)), (240, (26, 80, 240), (12, 4, 1)), (3, (3,), (12,))],
)
def test_rungs_are_thirds_of_the_run_of_at_least_four_epochs(epochs, rungs, quotas):
    budget = make_budget(12, epochs, 3)
    assert (budget.rungs, budget.quotas) == (rungs, quotas)
    assert budget.epochs == sum(length * count for length, count in zip(rungs, quotas, strict=True))


def test_few_trials_leave_one_at_every_later_rung():
    assert make_budget(2, 9, 3, [1, 3, 9]).quotas == (2, 1, 1)


@pytest.mark.parametrize("rungs", [[4, 4], [8, 4], [4, 13]])
def test_rungs_that_do_not_increase_or_exceed_the_run_are_refused(rungs):
    with pytest.raises(InputError, match="increasing numbers of epochs, at most epochs=12"):
        make_budget(12, 12, 3, rungs)


def test_of_equal_scores_the_lower_number_is_better():
    assert survivors({0: 50.0, 1: 70.0, 2: 70.0, 3: 10.0}, 3) == [1, 2, 0]


def test_one_of_several_places_is_kept_for_the_default_values_unless_they_diverged():
    scores = {0: 10.0, 1: 50.0, 2: 70.0, 3: 60.0}
    assert [survivors(scores, count) for count in (1, 2, 3)] == [[2], [2, 0], [2, 3, 0]]
    assert survivors(scores | {0: 0.0}, 2) == [2, 3]
