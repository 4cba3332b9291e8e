"""TTM and WTTM against the public code's numbers and against their definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stillroom.losses import TTM, WTTM, kd, ttm, wttm
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.ttm import ttm as reference


@pytest.mark.parametrize("case", [*cases("ttm"), *cases("wttm")], ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    name = case.name.split("-")[0]
    loss = {"ttm": ttm, "wttm": wttm}[name](student, teacher, gamma=case.hyper["gamma"])
    case.check(name, loss, gradient_of(loss, student))


@QUICK
@given(data=logits(max_classes=6), gamma=st.floats(0.05, 3))
def test_reference(data: Logits, gamma: float) -> None:
    student = data.student.requires_grad_()
    ours = ttm(student, data.teacher, gamma=gamma), wttm(student, data.teacher, gamma=gamma)
    for loss, expected in zip(ours, reference(student, data.teacher, gamma), strict=True):
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("loss", [ttm, wttm])
@QUICK
@given(data=logits(scales=(0.1, 5.0, 1e4)), gamma=st.floats(0.05, 2))
def test_the_softened_teacher_is_the_goal(loss: object, data: Logits, gamma: float) -> None:
    goal = (gamma * data.teacher).requires_grad_()
    value = loss(goal, data.teacher, gamma=gamma)
    assert value.item() == pytest.approx(0.0, abs=1e-9)
    assert gradient_of(value, goal).abs().max() < 1e-9


@QUICK
@given(data=logits())
def test_exponent_one_is_kd_at_temperature_one(data: Logits) -> None:
    plain = kd(data.student, data.teacher, temperature=1.0)
    torch.testing.assert_close(ttm(data.student, data.teacher, gamma=1.0), plain, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(wttm(data.student, data.teacher, gamma=1.0), plain, rtol=1e-9, atol=1e-10)


def test_the_weight_runs_from_certainty_to_ignorance() -> None:
    student = make(1, 8, seed=0).student
    certain, ignorant = torch.zeros(2, 1, 8, dtype=torch.float64)
    certain[0, 3] = 1e4
    for teacher, weight in ((certain, 1.0), (ignorant, 8**0.8)):
        torch.testing.assert_close(
            wttm(student, teacher, gamma=0.2), weight * ttm(student, teacher, gamma=0.2), rtol=1e-12, atol=0
        )


def test_the_teacher_is_exact_where_its_probabilities_underflow() -> None:
    student, teacher = make(2, 4, seed=1).student.float(), torch.tensor([[2000.0, 0, 0, 0], [0, 2000, 0, 0]])
    for loss in (ttm, wttm):
        exact = loss(student.double(), teacher.double(), gamma=1e-3)
        torch.testing.assert_close(loss(student, teacher, gamma=1e-3).double(), exact, rtol=1e-5, atol=0)
        # Public code raises a probability of exactly 0 to the power: the other classes would count for nothing.
        certain = loss(student, 1e4 * teacher, gamma=1e-3)
        assert abs(loss(student, teacher, gamma=1e-3) - certain) > 0.1


@pytest.mark.parametrize("module", [TTM, WTTM])
@pytest.mark.parametrize("gamma", [0.0, -1.0, float("inf"), float("nan")])
def test_refused_exponents(module: type[nn.Module], gamma: float) -> None:
    with pytest.raises(ValueError, match=f"gamma is {gamma}"):
        module(gamma=gamma)
    with pytest.raises(ValueError, match=f"gamma is {gamma}"):
        ttm(torch.zeros(3, 5), torch.zeros(3, 5), gamma=gamma)
