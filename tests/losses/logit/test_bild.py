"""BiLD against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses import BiLD, bild
from stillroom.losses.logit.bild import bild_terms
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.bild import bild_terms as reference


@pytest.mark.parametrize("case", cases("bild"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    settings = {"k": case.hyper["top_k"], "temperature": case.hyper["T"]}
    terms, total = bild_terms(student, teacher, **settings), BiLD(**settings)(student, teacher)
    for name, loss in (("t_ld", terms.teacher_led), ("s_ld", terms.student_led), ("total", total)):
        case.check(name, loss, gradient_of(loss, student))


@QUICK
@given(data=logits(max_classes=7), k=st.integers(2, 9), temperature=st.floats(0.1, 20))
def test_reference(data: Logits, k: int, temperature: float) -> None:
    student = data.student.requires_grad_()
    ours = bild_terms(student, data.teacher, k=k, temperature=temperature)
    for loss, expected in zip(ours, reference(student, data.teacher, k, temperature), strict=True):
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-9, atol=1e-10)


def test_more_classes_than_there_are_means_all_of_them() -> None:
    data = make(4, 5, seed=0)
    assert torch.equal(bild(data.student, data.teacher, k=8), bild(data.student, data.teacher, k=5))


def test_two_classes_have_one_difference_and_nothing_to_compare() -> None:
    data = make(4, 2, seed=1)
    student = data.student.requires_grad_()
    loss = bild(student, data.teacher)
    assert loss == 0
    assert gradient_of(loss, student).abs().max() == 0


def test_only_the_classes_that_a_leader_chooses_get_a_gradient() -> None:
    data = make(6, 12, seed=2)
    student = data.student.requires_grad_()
    chosen = torch.zeros_like(student, dtype=torch.bool)
    for leader in (student.detach(), data.teacher):
        chosen.scatter_(1, leader.topk(3, 1).indices, True)
    assert ((gradient_of(bild(student, data.teacher, k=3), student) != 0) == chosen).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_saturated_logits_keep_their_value(dtype: torch.dtype) -> None:
    student = torch.tensor([[200.0, 0, 0, -200], [0, 200, 0, 0]], dtype=dtype).requires_grad_()
    teacher = torch.tensor([[2.0, 1, 0, 0.5], [0, 2, 200, 1]], dtype=dtype)
    loss = bild(student, teacher)
    torch.testing.assert_close(loss.double(), bild(student.detach().double(), teacher.double()), rtol=1e-6, atol=0)
    assert gradient_of(loss, student).isfinite().all()


@pytest.mark.parametrize("k", [1, 0, 2.0, True])
def test_refused_numbers_of_classes(k: int) -> None:
    with pytest.raises(ValueError, match=f"k is {k}: .* at least 2"):
        BiLD(k=k)
    with pytest.raises(ValueError, match="k is"):
        bild(torch.zeros(3, 5), torch.zeros(3, 5), k=k)


def test_refused_reduction() -> None:
    with pytest.raises(ValueError, match="reduction is 'sum'"):
        bild(torch.zeros(3, 5), torch.zeros(3, 5), reduction="sum")  # type: ignore[arg-type]
