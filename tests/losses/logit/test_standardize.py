"""Standardised losses against the public code's numbers and against the definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from torch import nn

from stillroom.losses import DKD, KD, LDRLD, Standardized, standardize
from stillroom.losses.logit.dkd import dkd_terms
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.standardize import standardize as reference


@pytest.mark.parametrize("case", cases("lskd_kd"), ids=lambda case: case.name)
def test_golden_kd(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    loss = Standardized(KD(temperature=case.hyper["T"]))(student, teacher)
    case.check("kd", loss, gradient_of(loss, student))


@pytest.mark.parametrize("case", cases("lskd_dkd"), ids=lambda case: case.name)
def test_golden_dkd(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    target, hyper = case.tensor("target"), case.hyper
    loss = Standardized(DKD(hyper["alpha"], hyper["beta"], hyper["T"]))(student, teacher, target)
    case.check("total", loss, gradient_of(loss, student))
    terms = dkd_terms(standardize(student), standardize(teacher), target, temperature=hyper["T"])
    case.check("dkd_tckd", terms.target, gradient_of(terms.target, student))
    case.check("dkd_nckd", terms.non_target, gradient_of(terms.non_target, student))


@QUICK
@given(data=logits(max_classes=6))
def test_reference(data: Logits) -> None:
    torch.testing.assert_close(standardize(data.student), reference(data.student), rtol=1e-6, atol=1e-6)


def test_scale_and_shift_of_either_network_do_not_matter() -> None:
    data = make(4, 9, seed=0)
    loss = Standardized(LDRLD(depth=4))
    moved = loss(3 * data.student + 5, 0.5 * data.teacher - 2)
    torch.testing.assert_close(moved, loss(data.student, data.teacher), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e30])
def test_any_magnitude_is_finite_in_float32(size: float) -> None:
    student = (make(4, 9, seed=0).student.float() * size).requires_grad_()
    z = standardize(student)
    assert z.isfinite().all()
    assert gradient_of(z.square().sum() + z[:, 0].sum(), student).isfinite().all()


def test_a_constant_row_becomes_zeros_with_a_finite_gradient() -> None:
    student = torch.full((2, 5), 3.0, requires_grad=True)
    z = standardize(student)
    assert (z == 0).all()
    assert gradient_of((z * torch.arange(5.0)).sum(), student).isfinite().all()


def test_the_teacher_gets_no_gradient() -> None:
    data = make(3, 5, seed=1)
    teacher = data.teacher.clone().requires_grad_()
    Standardized(KD())(data.student.clone().requires_grad_(), teacher).backward()
    assert teacher.grad is None


def test_shapes_and_losses_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        standardize(torch.zeros(5))
    with pytest.raises(ValueError, match="Linear with forward"):
        Standardized(nn.Linear(2, 2))
