"""REVISION against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from stillroom.losses.logit.revision import REVISION, revision, revision_terms
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.revision import revision_terms as reference


@pytest.mark.parametrize("case", cases("revision"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits")
    target, hyper = case.tensor("target"), case.hyper
    # The public code falls back to float32 where one of the two sets of samples is empty.
    tolerance = {"rtol": 1e-6, "atol": 1e-6} if case.kind in ("right", "wrong") else {}
    entropy = revision_terms(student, teacher, target, eta=hyper["eta"]).cross_entropy
    total = REVISION(hyper["lambda1"], hyper["lambda2"], hyper["eta"])(student, teacher, target)
    for name, loss in (("ce_on_teacher_right_rows", entropy), ("total", total)):
        case.check(name, loss, gradient_of(loss, student), **tolerance)


@QUICK
@given(data=logits(max_classes=6), eta=st.floats(0.05, 0.95))
def test_reference(data: Logits, eta: float) -> None:
    student = data.student.requires_grad_()
    ours = revision_terms(student, data.teacher, data.target, eta=eta)
    theirs = reference(student, data.teacher, data.target, eta)
    for loss, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-9, atol=1e-10)
    total = revision(student, data.teacher, data.target, lambda1=2.0, lambda2=3.0, eta=eta)
    torch.testing.assert_close(total, ours[0] + 2 * ours[1] + 3 * ours[2])


@QUICK
@given(data=logits())
def test_a_right_teacher_leaves_nothing_to_revise(data: Logits) -> None:
    target = data.teacher.argmax(1)
    terms = revision_terms(data.student, data.teacher, target)
    assert terms.revised == 0
    torch.testing.assert_close(terms.cross_entropy, functional.cross_entropy(data.student, target))
    torch.testing.assert_close(terms.logits, functional.mse_loss(data.student, data.teacher))


def test_a_wrong_teacher_is_only_revised() -> None:
    data = make(5, 7, seed=0)
    target = data.teacher.argmin(1)
    student = data.student.requires_grad_()
    terms = revision_terms(student, data.teacher, target)
    assert terms.cross_entropy == 0
    assert terms.logits == 0
    assert not gradient_of(terms.logits + terms.cross_entropy, student).any()
    assert terms.revised > 0


@QUICK
@given(data=logits(scales=(0.1, 1.0, 5.0)), eta=st.floats(0.05, 0.95))
def test_the_optimum_of_a_wrong_teacher_prefers_the_label(data: Logits, eta: float) -> None:
    target = data.teacher.argmin(1)
    p = data.teacher.softmax(1)
    beta = eta / (p.amax(1) - p.amin(1) + 1)
    best = beta[:, None] * p + (1 - beta)[:, None] * functional.one_hot(target, p.shape[1])
    assert torch.equal(best.argmax(1), target)
    torch.testing.assert_close(best.sum(1), torch.ones(len(best)).double())
    assert revision_terms(best.log(), data.teacher, target, eta=eta).revised < 1e-20


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_saturated_and_equal_inputs_stay_finite(dtype: torch.dtype) -> None:
    student = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0], [0, 0, 0, 0]], dtype=dtype).requires_grad_()
    teacher, target = torch.tensor([[2.0, 1, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0]]), torch.tensor([1, 1, 3])
    for other in (teacher, 100 * teacher, student.detach()):
        loss = revision(student, other.to(dtype), target)
        assert loss.dtype == torch.float32
        exact = revision(student.detach().double(), other.to(dtype).double(), target)
        torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=1e-9)
        assert gradient_of(loss, student).isfinite().all()


def test_the_teacher_gets_no_gradient() -> None:
    data = make(4, 9, seed=6)
    teacher = data.teacher.requires_grad_()
    revision(data.student.requires_grad_(), teacher, data.target).backward()
    assert teacher.grad is None


@pytest.mark.usefixtures("unseen_values")
def test_a_nan_is_not_hidden() -> None:
    data = make(4, 9, seed=1)
    target = data.teacher.argmax(1)
    target[0] = data.teacher.argmin(1)[0]
    for sample in range(4):
        for broken in (data.student, data.teacher):
            kept = broken[sample, 4].item()
            broken[sample, 4] = torch.nan
            assert revision(data.student, data.teacher, target).isnan()
            broken[sample, 4] = kept


@pytest.mark.parametrize("kind", ["mixed", "right", "wrong"])
def test_compiled_equals_eager(kind: str) -> None:
    data = make(6, 9, seed=2)
    target = {"mixed": data.target, "right": data.teacher.argmax(1), "wrong": data.teacher.argmin(1)}[kind]
    student = data.student.requires_grad_()
    loss = torch.compile(REVISION(), fullgraph=True, backend="aot_eager")(student, data.teacher, target)
    eager = REVISION()(student, data.teacher, target)
    torch.testing.assert_close((loss, gradient_of(loss, student)), (eager, gradient_of(eager, student)))


def test_autocast_changes_nothing() -> None:
    data = make(4, 9, seed=5)
    student, teacher = data.student.float(), data.teacher.float()
    with torch.autocast("cpu", torch.bfloat16):
        cast = revision(student, teacher, data.target)
    assert torch.equal(cast, revision(student, teacher, data.target))


@pytest.mark.parametrize("eta", [0.0, 1.0, -0.5, float("nan")])
def test_refused_eta(eta: float) -> None:
    with pytest.raises(ValueError, match=f"eta is {eta}"):
        REVISION(eta=eta)
    with pytest.raises(ValueError, match=f"eta is {eta}"):
        revision(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(3).long(), eta=eta)


@pytest.mark.parametrize("name", ["lambda1", "lambda2"])
def test_refused_weights(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is inf"):
        REVISION(**{name: float("inf")})
    assert f"{name}=0.5" in repr(REVISION(**{name: 0.5}))
