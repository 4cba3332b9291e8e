"""Which classes LDRLD compares: against the definition, by each way of selecting."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses.kernels import class_choice
from stillroom.losses.kernels.class_choice import CHOOSERS, Chooser, check_chooser, choose_classes, merge_rankings
from tests.losses.draw import QUICK, Logits, logits, make
from tests.references.kd import row
from tests.references.ldrld import chosen


@QUICK
@given(data=logits(max_classes=20), depth=st.integers(1, 20), chosen_by=st.sampled_from(CHOOSERS))
def test_the_classes_are_those_of_the_definition(data: Logits, depth: int, chosen_by: Chooser) -> None:
    depth = min(depth, data.student.shape[1])
    classes, rest = choose_classes(data.student, data.teacher, depth, chosen_by)
    for b, found in enumerate(classes.tolist()):
        assert found == chosen(row(data.student, b, 1.0), row(data.teacher, b, 1.0), depth, chosen_by)
    kept = torch.ones_like(data.student, dtype=torch.bool).scatter(1, classes, False)
    assert torch.equal(rest.isfinite(), kept)
    assert torch.equal(rest[kept], data.student[kept])


@pytest.mark.parametrize("classes", [20, 500])
@pytest.mark.parametrize("chosen_by", CHOOSERS)
def test_both_ways_of_selecting_agree(classes: int, chosen_by: Chooser, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(8, classes, seed=1)
    rounds = choose_classes(data.student, data.teacher, 7, chosen_by)
    monkeypatch.setattr(class_choice, "ARGMAX_ROUNDS", 0)
    assert all(map(torch.equal, rounds, choose_classes(data.student, data.teacher, 7, chosen_by)))


def test_a_class_that_both_rank_high_goes_before_the_favourite_of_one() -> None:
    first, second = torch.tensor([[0, 1, 2], [0, 1, 2]]), torch.tensor([[3, 1, 4], [2, 1, 0]])
    assert merge_rankings(first, second).tolist() == [[1, 0, 3], [0, 1, 2]]


def test_the_logits_are_left_alone() -> None:
    data = make(4, 9, seed=2)
    before = data.student.clone(), data.teacher.clone()
    for chosen_by in CHOOSERS:
        choose_classes(data.student, data.teacher, 3, chosen_by)
    assert torch.equal(data.student, before[0])
    assert torch.equal(data.teacher, before[1])


def test_an_unknown_chooser_is_refused() -> None:
    with pytest.raises(ValueError, match="chosen_by is 'both': give 'student', 'teacher' or 'union'"):
        check_chooser("both")
