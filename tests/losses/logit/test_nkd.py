"""NKD against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses import NKD, nkd
from stillroom.losses.logit.dkd import dkd_terms
from stillroom.losses.logit.nkd import nkd_terms
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.nkd import nkd_terms as reference


@pytest.mark.parametrize("case", cases("nkd"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    target, hyper = case.tensor("target"), case.hyper
    terms = nkd_terms(student, teacher, target, temperature=hyper["temp"])
    total = nkd(student, teacher, target, gamma=hyper["gamma"], temperature=hyper["temp"])
    for name, loss in (("target_term", terms.target), ("nontarget_term_gamma1", terms.non_target), ("total", total)):
        case.check(name, loss, gradient_of(loss, student))


@QUICK
@given(data=logits(max_classes=6), temperature=st.floats(0.1, 20))
def test_reference(data: Logits, temperature: float) -> None:
    student = data.student.requires_grad_()
    ours = nkd_terms(student, data.teacher, data.target, temperature=temperature)
    theirs = reference(student, data.teacher, data.target, temperature)
    for loss, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-9, atol=1e-10)


@QUICK
@given(data=logits(), temperature=st.floats(0.5, 8))
def test_the_others_pull_as_in_dkd(data: Logits, temperature: float) -> None:
    student = data.student.requires_grad_()
    ours = nkd_terms(student, data.teacher, data.target, temperature=temperature).non_target
    dkd = dkd_terms(student, data.teacher, data.target, temperature=temperature).non_target
    torch.testing.assert_close(gradient_of(ours, student), gradient_of(dkd, student), rtol=1e-8, atol=1e-10)
    assert ours >= dkd - 1e-9


def test_agreement_leaves_the_entropy_and_a_pull_to_the_target() -> None:
    data = make(5, 7, seed=0)
    student = data.teacher.clone().requires_grad_()
    terms = nkd_terms(student, data.teacher, data.target)
    assert gradient_of(terms.non_target, student).abs().max() < 1e-12
    assert terms.non_target > 0
    pull = gradient_of(terms.target, student).gather(1, data.target[:, None])
    assert (pull < 0).all()


def test_two_classes_leave_nothing_to_the_others() -> None:
    data = make(5, 2, seed=0)
    assert nkd_terms(data.student, data.teacher, data.target).non_target == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_saturated_student_stays_finite(dtype: torch.dtype) -> None:
    student = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0]], dtype=dtype).requires_grad_()
    teacher, target = torch.tensor([[2.0, 1, 0, 0], [0, 2, 1, 0]]), torch.tensor([1, 0])
    loss = nkd(student, teacher.to(dtype), target)
    exact = nkd(student.detach().double(), teacher.double(), target)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)
    assert gradient_of(loss, student).isfinite().all()


def test_a_large_target_logit_does_not_leak_to_the_others() -> None:
    data = make(3, 6, seed=1)
    raised = data.teacher.scatter(1, data.target[:, None], 1e6)
    torch.testing.assert_close(
        nkd_terms(data.student, raised, data.target).non_target,
        nkd_terms(data.student, data.teacher, data.target).non_target,
    )


@pytest.mark.parametrize("gamma", [float("nan"), float("inf")])
def test_refused_weights(gamma: float) -> None:
    with pytest.raises(ValueError, match=f"gamma is {gamma}"):
        NKD(gamma=gamma)
    with pytest.raises(ValueError, match=f"gamma is {gamma}"):
        nkd(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(3).long(), gamma=gamma)


def test_refused_targets() -> None:
    with pytest.raises(ValueError, match=r"target has shape \(2,\)"):
        nkd(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(2).long())


@QUICK
@given(data=logits())
def test_rows_are_the_samples_losses(data: Logits) -> None:
    module, student = NKD(gamma=2.0, temperature=3.0), data.student.requires_grad_()
    rows = module.rows(student, data.teacher, data.target)
    alone = [module(student[i : i + 1], data.teacher[i : i + 1], data.target[i : i + 1]) for i in range(len(rows))]
    torch.testing.assert_close(rows, torch.stack(alone), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(rows.mean(), module(student, data.teacher, data.target), rtol=1e-12, atol=1e-14)
    pull = torch.arange(1.0, 1 + len(rows), dtype=torch.float64)
    gradients = [gradient_of((pull * each).sum(), student) for each in (rows, torch.stack(alone))]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_refused_reductions() -> None:
    with pytest.raises(ValueError, match="reduction is 'sum': give 'mean' or 'none'"):
        nkd(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(3).long(), reduction="sum")
