"""LumiNet against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from stillroom.losses import LumiNet, luminet
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.luminet import luminet as reference


@pytest.mark.parametrize("case", cases("luminet"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    loss = case.hyper["alpha"] ** 2 * LumiNet(temperature=case.hyper["T"])(student, teacher)
    case.check("luminet", loss, gradient_of(loss, student))


@QUICK
@given(data=logits(max_classes=6), temperature=st.floats(0.1, 20))
def test_reference(data: Logits, temperature: float) -> None:
    assume(len(data.target) > 1)
    student = data.student.requires_grad_()
    loss, expected = (
        luminet(student, data.teacher, temperature=temperature),
        reference(student, data.teacher, temperature),
    )
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-8, atol=1e-10)


def test_the_published_gradient() -> None:
    data, temperature = make(6, 5, seed=0), 3.0
    student = data.student.requires_grad_()
    mean, variance = student.detach().mean(0), student.detach().var(0, unbiased=False)
    z = (student.detach() - mean) / (variance + 1e-5).sqrt()
    z_teacher = (data.teacher - data.teacher.mean(0)) / (data.teacher.var(0, unbiased=False) + 1e-5).sqrt()
    g = ((z / temperature).softmax(1) - (z_teacher / temperature).softmax(1)) / (6 * temperature)
    expected = (g - g.mean(0) - z * (g * z).mean(0)) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(gradient_of(luminet(student, data.teacher, temperature=temperature), student), expected)


def test_a_constant_added_to_a_class_changes_nothing_and_the_spread_of_a_class_hardly_anything() -> None:
    data = make(6, 5, seed=1)
    plain = luminet(data.student, data.teacher)
    shift = torch.tensor([1.0, -50, 3, 0, 7], dtype=torch.float64)
    torch.testing.assert_close(luminet(data.student + shift, data.teacher - shift), plain)
    torch.testing.assert_close(luminet(data.student * shift.abs().clamp_min(2), data.teacher), plain, rtol=1e-4, atol=0)


def test_a_class_that_is_constant_over_the_batch_stays_finite() -> None:
    for constant in (0.0, 3.0, 1e30):
        data = make(4, 5, seed=2)
        student = data.student.float()
        student[:, 2] = constant
        student = student.requires_grad_()
        loss = luminet(student, data.teacher.float())
        assert loss.isfinite()
        assert gradient_of(loss, student).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_saturated_logits_keep_their_value(dtype: torch.dtype) -> None:
    student = torch.tensor([[200.0, 0, 0, -200], [0, 200, 0, 0], [1, 2, 3, 4]], dtype=dtype).requires_grad_()
    teacher = torch.tensor([[2.0, 1, 0, 0.5], [0, 2, 200, 1], [0, 0, 0, 1]], dtype=dtype)
    loss = luminet(student, teacher)
    torch.testing.assert_close(loss.double(), luminet(student.detach().double(), teacher.double()), rtol=1e-5, atol=0)
    assert gradient_of(loss, student).isfinite().all()


def test_one_sample_is_refused() -> None:
    with pytest.raises(ValueError, match=r"student_logits has batch size 1: .* drop the last batch"):
        luminet(torch.zeros(1, 5), torch.zeros(1, 5))
