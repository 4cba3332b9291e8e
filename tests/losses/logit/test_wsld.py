"""WSLD against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses import kd, wsld
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.wsld import wsld as reference


@pytest.mark.parametrize("case", cases("wsld"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    loss = wsld(student, teacher, case.tensor("target"), temperature=case.hyper["temp"])
    for name, term in (("wsld", loss), ("total", case.hyper["alpha"] * loss)):
        case.check(name, term, gradient_of(term, student))


@QUICK
@given(data=logits(max_classes=6), temperature=st.floats(0.1, 20))
def test_reference(data: Logits, temperature: float) -> None:
    student = data.student.requires_grad_()
    loss = wsld(student, data.teacher, data.target, temperature=temperature)
    expected = reference(student, data.teacher, data.target, temperature)
    # The definition's own rounding, 1e-16 in a cross-entropy, is divided by its guard of 1e-7.
    torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-7, atol=1e-7)


@QUICK
@given(data=logits(scales=(0.1, 5.0, 50.0)))
def test_agreement_pulls_nowhere_and_leaves_the_entropy(data: Logits) -> None:
    student = data.teacher.clone().requires_grad_()
    loss = wsld(student, data.teacher, data.target, temperature=3.0)
    assert gradient_of(loss, student).abs().max() < 1e-9
    log_p = (data.teacher / 3.0).log_softmax(1)
    assert 0 <= loss <= 9 * -(log_p.exp() * log_p).sum(1).mean() + 1e-9


def test_a_student_far_behind_gets_all_of_kd() -> None:
    teacher = torch.tensor([[30.0, 0, 1, 2]], dtype=torch.float64)
    student = torch.tensor([[-30.0, 0, 1, 2]], dtype=torch.float64).requires_grad_()
    ours, full = wsld(student, teacher, torch.tensor([0])), kd(student, teacher, temperature=2.0)
    torch.testing.assert_close(gradient_of(ours, student), gradient_of(full, student))


def test_a_student_far_ahead_gets_nothing() -> None:
    teacher = torch.tensor([[-30.0, 0, 1, 2]], dtype=torch.float64)
    student = torch.tensor([[30.0, 0, 1, 2]], dtype=torch.float64).requires_grad_()
    assert gradient_of(wsld(student, teacher, torch.tensor([0])), student).abs().max() < 1e-12


def test_the_weight_is_precise_where_both_networks_are_sure() -> None:
    logits_ = torch.tensor([[17.0, 0, 0, 0]])  # cross-entropy 1.2e-7, which a float32 log_softmax rounds by 4 %
    exact = wsld(logits_.double(), logits_.double(), torch.tensor([0]))
    torch.testing.assert_close(wsld(logits_, logits_, torch.tensor([0])).double(), exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_saturated_student_stays_finite(dtype: torch.dtype) -> None:
    student = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0]], dtype=dtype).requires_grad_()
    teacher, target = torch.tensor([[2.0, 1, 0, 0], [0, 2, 1, 0]]), torch.tensor([0, 0])
    loss = wsld(student, teacher.to(dtype), target)
    exact = wsld(student.detach().double(), teacher.double(), target)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)
    assert gradient_of(loss, student).isfinite().all()


def test_the_weight_gets_no_gradient() -> None:
    data = make(3, 5, seed=4)
    for i in range(3):
        student = data.student[i : i + 1].clone().requires_grad_()
        one = data.teacher[i : i + 1], data.target[i : i + 1]
        ours = gradient_of(wsld(student, *one), student)
        full = gradient_of(kd(student, one[0], temperature=2.0), student)
        ratio = ours.norm() / full.norm()
        assert 0 <= ratio <= 1
        torch.testing.assert_close(ours, ratio * full)


def test_refused_targets() -> None:
    with pytest.raises(ValueError, match=r"target has shape \(2,\)"):
        wsld(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(2).long())
