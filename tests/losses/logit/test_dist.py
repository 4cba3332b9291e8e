"""DIST against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses import DIST, dist
from stillroom.losses.logit.dist import dist_terms
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.dist import dist_terms as reference


@pytest.mark.parametrize("case", cases("dist"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher, hyper = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits"), case.hyper
    terms = dist_terms(student, teacher, temperature=hyper["tau"])
    total = dist(student, teacher, beta=hyper["beta"], gamma=hyper["gamma"], temperature=hyper["tau"])
    for name, loss in (("inter", terms.inter), ("intra", terms.intra), ("total", total)):
        case.check(name, loss, gradient_of(loss, student))


# Not saturated: a nearly constant row or column amplifies rounding by up to 1e8 before the softmax shrinks it again.
@QUICK
@given(data=logits(max_classes=6, scales=(0.5, 2.0)), temperature=st.floats(0.8, 10))
def test_reference(data: Logits, temperature: float) -> None:
    student = data.student.requires_grad_()
    ours = dist_terms(student, data.teacher, temperature=temperature)
    theirs = reference(student, data.teacher, temperature)
    for loss, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
        if expected.requires_grad:
            wanted = gradient_of(expected, student)
            torch.testing.assert_close(gradient_of(loss, student), wanted, rtol=1e-7, atol=1e-8)


def test_agreement_costs_no_more_than_the_guard() -> None:
    data = make(6, 5, seed=0, scale=1.0)
    student = data.teacher.clone().requires_grad_()
    loss = dist(student, data.teacher)
    assert 0 <= loss < 1e-3
    assert gradient_of(loss, student).abs().max() < 1e-4


@QUICK
@given(data=logits(scales=(0.1, 5.0, 1e4, 1e30)))
def test_the_bounds(data: Logits) -> None:
    for term in dist_terms(data.student, data.teacher, temperature=3.0):
        assert -1e-9 <= term <= 2 * 9 + 1e-9


def test_one_sample_has_no_columns() -> None:
    data = make(1, 7, seed=1)
    student = data.student.requires_grad_()
    intra = dist_terms(student, data.teacher, temperature=2.0).intra
    assert intra == 4
    assert gradient_of(intra, student).abs().max() == 0


def test_a_constant_student_stays_finite() -> None:
    student = torch.zeros(3, 4, requires_grad=True)
    loss = dist(student, make(3, 4, seed=2).teacher.float(), temperature=1.0)
    assert loss.item() == pytest.approx(2.0)
    assert gradient_of(loss, student).isfinite().all()


def test_a_dead_class_costs_its_share() -> None:
    same = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0]])
    assert dist(same, same, temperature=1.0).item() == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["beta", "gamma"])
def test_refused_weights(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is nan"):
        DIST(**{name: float("nan")})
    with pytest.raises(ValueError, match=f"{name} is inf"):
        dist(torch.zeros(3, 5), torch.zeros(3, 5), **{name: float("inf")})
