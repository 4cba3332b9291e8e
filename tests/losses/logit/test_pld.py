"""PLD against its definition; no public code gives numbers for it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from stillroom.losses import PLD, pld
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.pld import pld as reference


@QUICK
@given(data=logits(max_classes=7), temperature=st.floats(0.1, 20))
def test_reference(data: Logits, temperature: float) -> None:
    student = data.student.requires_grad_()
    loss = pld(student, data.teacher, data.target, temperature=temperature)
    expected = reference(student, data.teacher, data.target, temperature)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-8, atol=1e-10)


@QUICK
@given(data=logits(scales=(1.0,)))
def test_a_teacher_that_is_certain_of_the_label_makes_it_the_cross_entropy(data: Logits) -> None:
    certain = 1e3 * functional.one_hot(data.target, data.student.shape[1]).double() + data.teacher
    torch.testing.assert_close(
        pld(data.student, certain, data.target), functional.cross_entropy(data.student, data.target)
    )


def test_a_student_in_the_order_of_the_teacher_costs_less_the_further_its_logits_are_apart() -> None:
    teacher = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    label = torch.tensor([2])
    order = torch.tensor([[2.0, 1.0, 3.0, 0.0]])  # the label first, then 0, 1, 3
    values = [pld(scale * order, teacher, label).item() for scale in (0.0, 1.0, 5.0, 50.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 1e-6
    assert pld(50.0 * teacher, teacher, label) > 1


def test_it_is_convex_in_the_student() -> None:
    one, other = make(5, 8, seed=0), make(5, 8, seed=1)
    between = pld((one.student + other.student) / 2, one.teacher, one.target)
    ends = [pld(data.student, one.teacher, one.target) for data in (one, other)]
    assert between <= sum(ends) / 2


def test_equal_teacher_logits_are_ranked_by_their_number() -> None:
    student = torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.float64)
    teacher, label = torch.zeros_like(student), torch.tensor([1])
    by_hand = (student.logsumexp(1) - 1.0 + torch.tensor([0.0, 3.0]).double().logsumexp(0) - 0.0) / 3
    torch.testing.assert_close(pld(student, teacher, label), by_hand[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("offset", [0.0, -1e4])
def test_saturated_logits_keep_value_and_gradient(dtype: torch.dtype, offset: float) -> None:
    student = (torch.tensor([[200.0, 0, 0, -200], [0, 200, 0, 0]]) + offset).to(dtype).requires_grad_()
    teacher = torch.tensor([[2.0, 1, 0, 0.5], [0, 2, 200, 1]], dtype=dtype)
    target = torch.tensor([1, 3])
    loss, wide = pld(student, teacher, target), student.detach().double().requires_grad_()
    exact = pld(wide, teacher.double(), target)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-6)
    gradient, tolerance = gradient_of(loss, student).double(), 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(gradient, gradient_of(exact, wide), rtol=max(tolerance, 1e-4), atol=1e-6)


def test_many_classes_agree_with_the_definition_by_matrices() -> None:
    data = make(3, 200, seed=2)
    student, y = data.student.requires_grad_(), data.target[:, None]
    first = data.teacher.scatter(1, y, torch.inf)
    left = first[:, None, :] <= first[:, :, None]  # at [k, l]: is l still there when k is chosen
    remaining = student[:, None, :].masked_fill(~left, -torch.inf).logsumexp(2)
    expected = (data.teacher.softmax(1) * (remaining - student)).sum(1).mean()
    loss = PLD()(student, data.teacher, data.target)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student))


def test_refused_input() -> None:
    good = torch.zeros(3, 5)
    with pytest.raises(ValueError, match=r"target has shape \(2,\)"):
        pld(good, good, torch.zeros(2).long())
    with pytest.raises(ValueError, match="reduction is 'sum'"):
        pld(good, good, torch.zeros(3).long(), reduction="sum")  # type: ignore[arg-type]
