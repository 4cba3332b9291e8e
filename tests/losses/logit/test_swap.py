"""SWAP against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses import KD, Standardized, kd
from stillroom.losses.logit.swap import SWAP, swap
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.swap import swap as reference


@pytest.mark.parametrize("case", cases("swap"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    module: torch.nn.Module = SWAP(temperature=case.hyper["T"])
    # The public code standardises after the swap; that is the same, a swap keeps a row's mean and spread.
    module = Standardized(module) if case.hyper["logit_stand"] else module
    loss = module(student, teacher, case.tensor("target"))
    case.check("kd_swapped", loss, gradient_of(loss, student))


@QUICK
@given(data=logits(max_classes=6), temperature=st.floats(0.1, 20))
def test_reference(data: Logits, temperature: float) -> None:
    student = data.student.requires_grad_()
    loss = swap(student, data.teacher, data.target, temperature=temperature)
    expected = reference(student, data.teacher, data.target, temperature)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-9, atol=1e-10)


@QUICK
@given(data=logits())
def test_a_right_teacher_makes_it_kd(data: Logits) -> None:
    target = data.teacher.argmax(1)
    assert torch.equal(swap(data.student, data.teacher, target), kd(data.student, data.teacher))


@QUICK
@given(data=logits())
def test_the_optimum_has_the_label_on_top(data: Logits) -> None:
    # The student that costs nothing is the teacher with two entries exchanged, found here by sorting.
    best = data.teacher.clone()
    for b, y in enumerate(data.target.tolist()):
        top = int(best[b].argsort()[-1])
        best[b, [y, top]] = best[b, [top, y]]
    assert torch.equal(best.argmax(1), data.target)
    student = best.requires_grad_()
    loss = swap(student, data.teacher, data.target)
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert gradient_of(loss, student).abs().max() < 1e-12


def test_a_label_tied_for_the_largest_changes_nothing() -> None:
    teacher = torch.tensor([[3.0, 1.0, 3.0]])
    for label in (0, 2):
        student = torch.tensor([[0.0, 1.0, 2.0]])
        assert torch.equal(swap(student, teacher, torch.tensor([label])), kd(student, teacher))


@QUICK
@given(data=logits())
def test_rows_are_the_samples_losses(data: Logits) -> None:
    module, student = SWAP(temperature=3.0), data.student.requires_grad_()
    rows = module.rows(student, data.teacher, data.target)
    alone = [module(student[i : i + 1], data.teacher[i : i + 1], data.target[i : i + 1]) for i in range(len(rows))]
    torch.testing.assert_close(rows, torch.stack(alone), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_saturated_student_stays_finite(dtype: torch.dtype) -> None:
    student = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0]], dtype=dtype).requires_grad_()
    teacher, target = torch.tensor([[2.0, 1, 0, 0], [0, 2, 1, 0]]), torch.tensor([1, 0])
    loss = swap(student, teacher.to(dtype), target, temperature=1.0)
    assert loss.dtype == torch.float32
    exact = swap(student.detach().double(), teacher.double(), target, temperature=1.0)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)
    assert gradient_of(loss, student).isfinite().all()


def test_the_teacher_gets_no_gradient_and_is_left_alone() -> None:
    data = make(4, 9, seed=0)
    before = data.teacher.clone()
    student, teacher = data.student.requires_grad_(), data.teacher.requires_grad_()
    swap(student, teacher, data.target).backward()
    assert teacher.grad is None
    assert torch.equal(teacher, before)


@pytest.mark.usefixtures("unseen_values")
def test_a_nan_is_not_hidden() -> None:
    data = make(3, 9, seed=1)
    for broken in (data.student, data.teacher):
        kept = broken[1, 4].item()
        broken[1, 4] = torch.nan
        assert swap(data.student, data.teacher, data.target).isnan()
        broken[1, 4] = kept


def test_compiled_equals_eager() -> None:
    data = make(4, 9, seed=2)
    student = data.student.requires_grad_()
    loss = torch.compile(SWAP(), fullgraph=True, backend="aot_eager")(student, data.teacher, data.target)
    eager = SWAP()(student, data.teacher, data.target)
    torch.testing.assert_close((loss, gradient_of(loss, student)), (eager, gradient_of(eager, student)))


def test_refused_values() -> None:
    with pytest.raises(ValueError, match=r"temperature is 0\.0"):
        SWAP(temperature=0.0)
    with pytest.raises(ValueError, match=r"target has shape \(2,\)"):
        swap(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(2).long())
    with pytest.raises(ValueError, match=r"teacher_logits has shape \(3, 4\)"):
        swap(torch.zeros(3, 5), torch.zeros(3, 4), torch.zeros(3).long())
    assert repr(SWAP(temperature=2.0)) == repr(KD(temperature=2.0)).replace("KD", "SWAP")
