"""RLD against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses import RLD, dkd, rld
from stillroom.losses.logit.dkd import dkd_terms
from stillroom.losses.logit.rld import rld_terms
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.rld import rld_terms as reference


def z_scores(values: Tensor) -> Tensor:
    """What the public code's logit_stand puts before the loss."""
    return (values - values.mean(1, keepdim=True)) / (1e-7 + values.std(1, keepdim=True))


@pytest.mark.parametrize("case", cases("rld"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    target, hyper = case.tensor("target"), case.hyper
    pair = (z_scores(student), z_scores(teacher)) if hyper["logit_stand"] else (student, teacher)
    warmth = {"temperature": hyper["T"], "confidence_temperature": hyper["alpha_T"]}
    terms = rld_terms(*pair, target, **warmth)
    total = rld(*pair, target, alpha=hyper["alpha"], beta=hyper["beta"], **warmth)
    for name, loss in (("scd", terms.confidence), ("mcd", terms.correlation), ("total", total)):
        case.check(name, loss, gradient_of(loss, student))


@QUICK
@given(data=logits(max_classes=6), temperature=st.floats(0.1, 20), confidence=st.floats(0.1, 20))
def test_reference(data: Logits, temperature: float, confidence: float) -> None:
    student = data.student.requires_grad_()
    warmth = {"temperature": temperature, "confidence_temperature": confidence}
    ours = rld_terms(student, data.teacher, data.target, **warmth)
    theirs = reference(student, data.teacher, data.target, **warmth)
    for loss, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
        if expected.requires_grad:
            wanted = gradient_of(expected, student)
            torch.testing.assert_close(gradient_of(loss, student), wanted, rtol=1e-9, atol=1e-10)


@QUICK
@given(data=logits())
def test_a_teacher_that_is_right_makes_it_dkd(data: Logits) -> None:
    target = data.teacher.argmax(1)
    ours = rld(data.student, data.teacher, target, beta=3.0, temperature=2.0, confidence_temperature=2.0)
    theirs = dkd(data.student, data.teacher, target, beta=3.0, temperature=2.0)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@QUICK
@given(data=logits(scales=(0.1, 5.0, 1e4, 1e30)))
def test_agreement_with_the_labels_costs_nothing(data: Logits) -> None:
    student = data.teacher.clone().requires_grad_()
    loss = rld(student, data.teacher, data.teacher.argmax(1))
    assert loss.item() == pytest.approx(0.0, abs=1e-10)
    assert gradient_of(loss, student).abs().max() < 1e-10


def test_a_wrong_teacher_never_pulls_to_its_own_class() -> None:
    data = make(6, 9, seed=3)
    target = data.teacher.topk(2, 1).indices[:, 1]  # only the teacher's choice is above the target
    student = data.student.requires_grad_()
    terms = rld_terms(student, data.teacher, target)
    top = data.teacher.argmax(1, keepdim=True)
    assert gradient_of(terms.correlation, student).gather(1, top).abs().max() == 0
    certain = data.teacher.scatter(1, top, 1e3)
    assert (gradient_of(rld_terms(student, certain, target).confidence, student).gather(1, top) >= 0).all()


def test_a_target_at_the_bottom_leaves_nothing_to_match() -> None:
    data = make(4, 6, seed=5)
    target = torch.cat([data.teacher[:2].argmin(1), data.teacher[2:].argmax(1)])
    student = data.student.requires_grad_()
    gradient = gradient_of(rld_terms(student, data.teacher, target).correlation, student)
    assert gradient[:2].abs().max() == 0
    assert gradient[2:].abs().min(1).values.max() == 0  # the target's own column
    assert (gradient[2:].abs().sum(1) > 0).all()


def test_a_tie_with_the_target_is_masked() -> None:
    teacher = torch.tensor([[2.0, 2, 0, 1]], dtype=torch.float64)
    student = make(1, 4, seed=6).student
    ours = rld_terms(student, teacher, torch.tensor([0]), temperature=1.0).correlation
    alone = dkd_terms(student[:, [0, 2, 3]], teacher[:, [0, 2, 3]], torch.tensor([0]), temperature=1.0).non_target
    torch.testing.assert_close(ours, alone)


def test_a_logit_of_any_size_stays_masked() -> None:
    data = make(3, 6, seed=7)
    target = data.teacher.topk(3, 1).indices[:, 2]
    huge = data.teacher.scatter(1, data.teacher.argmax(1, keepdim=True), 1e30)
    torch.testing.assert_close(
        rld_terms(data.student, huge, target).correlation, rld_terms(data.student, data.teacher, target).correlation
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_where_public_code_overflows(dtype: torch.dtype) -> None:
    student = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0]], dtype=dtype).requires_grad_()
    teacher, target = torch.tensor([[2.0, 1, 0, 0], [0, 2, 1, 0]], dtype=dtype), torch.tensor([0, 1])
    loss = rld(student, teacher, target, beta=0.0, temperature=1.0)
    # The public code's float64 numbers; its float32 loss is infinite and its float16 raises.
    assert loss.item() == pytest.approx(76.84411332894034, rel=1e-6)
    largest = gradient_of(loss, student).abs().max().item()
    assert largest == pytest.approx(0.19485215729318833, rel=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("name", ["alpha", "beta", "confidence_temperature"])
def test_refused_numbers(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is nan"):
        RLD(**{name: float("nan")})
    with pytest.raises(ValueError, match=f"{name} is inf"):
        rld(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(3).long(), **{name: float("inf")})


def test_refused_targets() -> None:
    with pytest.raises(ValueError, match=r"target has shape \(2,\)"):
        rld(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(2).long())
