"""ABKD against the public code's numbers, against its definition, and where powers of a softmax underflow."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses import ABKD, abkd, kd
from stillroom.losses.finite import NotFinite
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.abkd import abkd as reference

EXPONENTS = st.sampled_from([(0.8, 0.3), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.6, -0.6), (-0.5, 1.2), (1.4, -0.3),
                             (0.0, 0.4), (0.7, 0.0), (0.5, 0.5)])  # fmt: skip
POSITIVE = ((0.8, 0.3), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5))


@pytest.mark.parametrize("case", cases("abkd"), ids=lambda case: case.name)
def test_golden_with_the_analytic_limits(case: Golden) -> None:
    student, hyper = case.tensor("student_logits").requires_grad_(), case.hyper
    exponents = {"alpha": hyper["alpha"], "beta": hyper["beta"], "temperature": hyper["T"]}
    loss = hyper["limit_factor"] * abkd(student, case.tensor("teacher_logits"), **exponents)
    case.check("abkd", loss, gradient_of(loss, student))


@QUICK
@given(data=logits(max_classes=6, scales=(0.1, 1.0, 5.0)), exponents=EXPONENTS, temperature=st.floats(0.5, 20))
def test_reference(data: Logits, exponents: tuple[float, float], temperature: float) -> None:
    student = data.student.requires_grad_()
    ours = abkd(student, data.teacher, alpha=exponents[0], beta=exponents[1], temperature=temperature)
    theirs = reference(student, data.teacher, *exponents, temperature)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(gradient_of(ours, student), gradient_of(theirs, student), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("alpha", "beta"), [(0.8, 0.3), (1.0, 0.0), (0.6, -0.6)])
def test_close_to_a_limit_the_gradient_is_exact_and_the_value_has_half_its_digits(alpha: float, beta: float) -> None:
    data = make(5, 12, seed=1)
    for dtype, step in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        student = data.student.to(dtype).requires_grad_()
        at, near = (
            abkd(student, data.teacher.to(dtype), alpha=a, beta=b)
            for a, b in ((alpha, beta), (alpha + step, beta + step))
        )
        error = torch.finfo(dtype).eps ** 0.5
        torch.testing.assert_close(near, at, rtol=10 * error, atol=0)
        torch.testing.assert_close(gradient_of(near, student), gradient_of(at, student), rtol=100 * step, atol=step)


def test_named_divergences() -> None:
    data = make(6, 10, seed=2)
    q, p = (each.softmax(1) for each in (data.student, data.teacher))
    found = {
        exponents: abkd(data.student, data.teacher, alpha=exponents[0], beta=exponents[1], temperature=1.0)
        for exponents in POSITIVE
    }
    torch.testing.assert_close(found[1.0, 0.0], kd(data.student, data.teacher, temperature=1.0))
    torch.testing.assert_close(found[0.0, 1.0], kd(data.teacher, data.student, temperature=1.0))
    torch.testing.assert_close(found[0.5, 0.5], 2 * (p.sqrt() - q.sqrt()).square().sum(1).mean())


@pytest.mark.parametrize(("alpha", "beta"), POSITIVE)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_where_public_code_has_nan_gradients(alpha: float, beta: float, dtype: torch.dtype) -> None:
    student = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0]], dtype=dtype)
    teacher = torch.tensor([[0.0, 200, 0, 0], [0, 150, 50, 0]], dtype=dtype)
    exact = student.double().requires_grad_()
    wanted = abkd(exact, teacher.double(), alpha=alpha, beta=beta, temperature=1.0)
    student.requires_grad_()
    loss = abkd(student, teacher, alpha=alpha, beta=beta, temperature=1.0)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    gradient = gradient_of(loss, student).double()
    torch.testing.assert_close(gradient, gradient_of(wanted, exact), rtol=4 * torch.finfo(dtype).eps, atol=1e-6)


def test_a_divergence_beyond_its_dtype_is_refused() -> None:
    student, teacher = torch.tensor([[4e4, 0.0]]), torch.tensor([[0.0, 4e4]])
    with pytest.raises(NotFinite, match="too large for this loss in float32"):
        abkd(student, teacher, alpha=0.6, beta=-0.6)
    assert abkd(student, teacher).isfinite()


@QUICK
@given(data=logits())
def test_rows_are_the_samples_losses(data: Logits) -> None:
    module, student = ABKD(alpha=0.9, beta=0.2), data.student.requires_grad_()
    rows = module.rows(student, data.teacher)
    alone = [module(student[i : i + 1], data.teacher[i : i + 1]) for i in range(len(rows))]
    torch.testing.assert_close(rows, torch.stack(alone), rtol=1e-10, atol=1e-12)
    pull = torch.arange(1.0, 1 + len(rows), dtype=torch.float64)
    gradients = [gradient_of((pull * each).sum(), student) for each in (rows, torch.stack(alone))]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
    positions = abkd(student.unsqueeze(1), data.teacher.unsqueeze(1), alpha=0.9, beta=0.2, reduction="none")
    torch.testing.assert_close(positions, rows.unsqueeze(1))


def test_refused_settings() -> None:
    with pytest.raises(ValueError, match="beta is nan"):
        ABKD(beta=float("nan"))
    with pytest.raises(ValueError, match="reduction is 'sum': give 'mean' or 'none'"):
        abkd(torch.zeros(2, 3), torch.zeros(2, 3), reduction="sum")  # type: ignore[arg-type]
