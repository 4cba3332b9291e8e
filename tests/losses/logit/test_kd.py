"""KD against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses import kd
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits
from tests.references.kd import kd as reference


@pytest.mark.parametrize("case", cases("kd"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student = case.tensor("student_logits").requires_grad_()
    loss = kd(student, case.tensor("teacher_logits"), temperature=case.hyper["T"])
    case.check("kd", loss, gradient_of(loss, student))


@QUICK
@given(data=logits(max_classes=6), temperature=st.floats(0.1, 20))
def test_reference(data: Logits, temperature: float) -> None:
    student = data.student.requires_grad_()
    loss, expected = kd(student, data.teacher, temperature=temperature), reference(student, data.teacher, temperature)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-9, atol=1e-10)


def test_a_saturated_student_stays_finite() -> None:
    student = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0]], requires_grad=True)
    loss = kd(student, torch.tensor([[2.0, 1, 0, 0], [0, 2, 1, 0]]), temperature=1.0)
    torch.testing.assert_close(loss.item(), 76.89215850830078, rtol=1e-6, atol=0)
    assert gradient_of(loss, student).abs().max().item() == pytest.approx(0.19485212, rel=1e-5)
