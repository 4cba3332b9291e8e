"""DKD against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses import DKD, dkd, kd
from stillroom.losses.logit.dkd import dkd_terms
from tests.golden import Golden, cases, read
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.dkd import dkd_terms as reference

# Logits of the edge cases on which the public code's log of a softmax returns inf.
SATURATED = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0]])
TEACHER = torch.tensor([[2.0, 1, 0, 0], [0, 2, 1, 0]])


@pytest.mark.parametrize("case", cases("dkd"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    target, hyper = case.tensor("target"), case.hyper
    terms = dkd_terms(student, teacher, target, temperature=hyper["T"])
    total = dkd(student, teacher, target, alpha=hyper["alpha"], beta=hyper["beta"], temperature=hyper["T"])
    for name, loss in (("dkd_tckd", terms.target), ("dkd_nckd", terms.non_target), ("total", total)):
        case.check(name, loss, gradient_of(loss, student))


@QUICK
@given(data=logits(max_classes=6), temperature=st.floats(0.1, 20))
def test_reference(data: Logits, temperature: float) -> None:
    student = data.student.requires_grad_()
    ours = dkd_terms(student, data.teacher, data.target, temperature=temperature)
    theirs = reference(student, data.teacher, data.target, temperature)
    for loss, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-9, atol=1e-10)


@QUICK
@given(data=logits())
def test_it_decouples_kd(data: Logits) -> None:
    whole = torch.zeros((), dtype=torch.float64)
    for i in range(len(data.target)):
        one = data.student[i : i + 1], data.teacher[i : i + 1]
        target, others = dkd_terms(*one, data.target[i : i + 1], temperature=3.0)
        rest = 1 - (one[1] / 3.0).softmax(1)[0, data.target[i]]
        whole += (target + rest * others) / len(data.target)
    torch.testing.assert_close(kd(data.student, data.teacher, temperature=3.0), whole, rtol=1e-8, atol=1e-10)


def test_two_classes_leave_nothing_to_the_others() -> None:
    data = make(5, 2, seed=0)
    terms = dkd_terms(data.student, data.teacher, data.target)
    assert terms.non_target == 0
    torch.testing.assert_close(terms.target, kd(data.student, data.teacher))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("labels", "name"), [([0, 1], "student_saturated"), ([1, 0], "student_saturated_wrong")])
def test_where_public_code_overflows(dtype: torch.dtype, labels: list[int], name: str) -> None:
    wanted = next(f for f in read_edges() if f["name"] == f"{name}_T1_float64")["result"]
    student = SATURATED.to(dtype).requires_grad_()
    loss = dkd(student, TEACHER.to(dtype), torch.tensor(labels), temperature=1.0)
    assert loss.item() == pytest.approx(float(wanted["value"]), rel=1e-6)
    largest = gradient_of(loss, student).abs().max().item()
    assert largest == pytest.approx(float(wanted["grad_absmax"]), rel=4 * torch.finfo(dtype).eps)


def test_where_public_code_leaks() -> None:
    teacher = TEACHER.clone()
    teacher[0, 0] = teacher[1, 1] = 3000.0
    student, target = make(2, 4, seed=1).student, torch.tensor([0, 1])
    leaky = dkd_terms(student, teacher, target, temperature=1.0).non_target
    modest = dkd_terms(student, TEACHER, target, temperature=1.0).non_target
    torch.testing.assert_close(leaky, modest)


def read_edges() -> list[dict[str, object]]:
    """The public code's behaviour on hard inputs."""
    return read("edge_cases_kd_dkd")["failures"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(3), "target has dtype torch.float32"),
        (torch.zeros(2).long(), r"target has shape \(2,\)"),
        (torch.zeros(3, 1).long(), r"target has shape \(3, 1\)"),
        (torch.zeros(3, device="meta").long(), "target is on meta"),
    ],
)
def test_refused_targets(target: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dkd(torch.zeros(3, 5), torch.zeros(3, 5), target)


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_refused_weights(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is nan"):
        DKD(**{name: float("nan")})


@QUICK
@given(data=logits())
def test_rows_are_the_samples_losses(data: Logits) -> None:
    module, student = DKD(beta=2.0, temperature=3.0), data.student.requires_grad_()
    rows = module.rows(student, data.teacher, data.target)
    alone = [module(student[i : i + 1], data.teacher[i : i + 1], data.target[i : i + 1]) for i in range(len(rows))]
    torch.testing.assert_close(rows, torch.stack(alone), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(rows.mean(), module(student, data.teacher, data.target), rtol=1e-12, atol=1e-14)
    pull = torch.arange(1.0, 1 + len(rows), dtype=torch.float64)
    gradients = [gradient_of((pull * each).sum(), student) for each in (rows, torch.stack(alone))]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_refused_reductions() -> None:
    with pytest.raises(ValueError, match="reduction is 'sum': give 'mean' or 'none'"):
        dkd(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(3).long(), reduction="sum")
