"""RC against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses import standardize
from stillroom.losses.logit.rc import RC, rc
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.rc import rc as reference


@pytest.mark.parametrize("case", cases("rc"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student = case.tensor("student_logits").requires_grad_()
    shown = standardize(student) if case.hyper["logit_stand"] else student
    loss = RC(temperature=case.hyper["T"])(shown, case.tensor("target"))
    case.check("rc", loss, gradient_of(loss, student))


@QUICK
@given(data=logits(max_classes=6), temperature=st.floats(0.1, 20))
def test_reference(data: Logits, temperature: float) -> None:
    student = data.student.requires_grad_()
    loss, expected = (run(student, data.target, temperature=temperature) for run in (rc, reference))
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("largest", "sign"), [(2.0, -1), (0.0, 0), (-2.0, 1)])
def test_the_labels_pull_has_the_sign_of_the_largest_logit(largest: float, sign: int) -> None:
    student = (torch.tensor([[0.0, -1.0, -3.0]]).double() + largest).requires_grad_()
    for label in range(3):
        loss = rc(student, torch.tensor([label]))
        assert (loss > 1e-6) == (sign != 0)
        assert torch.sign(gradient_of(loss, student)[0, label]).item() == pytest.approx(sign)


@QUICK
@given(data=logits())
def test_gradients_of_a_row_sum_to_zero(data: Logits) -> None:
    student = data.student.requires_grad_()
    gradient = gradient_of(rc(student, data.target), student)
    torch.testing.assert_close(gradient.sum(1), torch.zeros_like(gradient[:, 0]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_large_or_zero_student_stays_finite(dtype: torch.dtype) -> None:
    # In half precision s_y + max(s) would overflow from 32760 on; in float32 from 1.7e38 on.
    largest = {torch.float16: 6e4, torch.bfloat16: 3e38, torch.float32: 3e38}[dtype]
    for size in (0.0, 200.0, largest):
        student = torch.tensor([[size, 0, 0, 0], [0, size, 0, 0]], dtype=dtype).requires_grad_()
        loss = rc(student, torch.tensor([0, 1]), temperature=4.0)
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert gradient_of(loss, student).isfinite().all()
        exact = rc(student.detach().double(), torch.tensor([0, 1]), temperature=4.0)
        torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("unseen_values")
def test_a_nan_is_not_hidden() -> None:
    data = make(3, 9, seed=1)
    data.student[1, 4] = torch.nan
    assert rc(data.student, data.target).isnan()


def test_compiled_equals_eager() -> None:
    data = make(4, 9, seed=2)
    student = data.student.requires_grad_()
    loss = torch.compile(RC(), fullgraph=True, backend="aot_eager")(student, data.target)
    eager = RC()(student, data.target)
    torch.testing.assert_close((loss, gradient_of(loss, student)), (eager, gradient_of(eager, student)))


def test_refused_values() -> None:
    with pytest.raises(ValueError, match="temperature is nan"):
        RC(temperature=float("nan"))
    with pytest.raises(ValueError, match=r"target has shape \(2,\)"):
        rc(torch.zeros(3, 5), torch.zeros(2).long())
    with pytest.raises(ValueError, match=r"student_logits has shape \(5,\)"):
        rc(torch.zeros(5), torch.zeros(5).long())
    assert repr(RC(temperature=2.0)) == "RC(temperature=2.0)"


def test_the_whole_is_the_mean_over_its_parts() -> None:
    data = make(6, 9, seed=3)
    parts = [RC()(data.student[rows], data.target[rows]) for rows in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close((2 * parts[0] + 4 * parts[1]) / 6, RC()(data.student, data.target))
    assert RC.per_sample
