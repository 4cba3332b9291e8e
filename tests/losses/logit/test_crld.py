"""CRLD against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses import CRLD, crld, kd
from stillroom.losses.logit.crld import crld_terms
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.crld import crld_terms as reference

VIEWS = ("student_weak", "teacher_weak", "student_strong", "teacher_strong")


def views(batch: int, classes: int, seed: int) -> list[Tensor]:
    """Student and teacher logits of the weak view, then of the strong one."""
    weak, strong = make(batch, classes, seed), make(batch, classes, seed + 1)
    return [weak.student, weak.teacher, strong.student, strong.teacher]


@pytest.mark.parametrize("case", cases("crld"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    given_ = [case.tensor(name) for name in VIEWS]
    weak, strong = given_[0].requires_grad_(), given_[2].requires_grad_()
    hyper = case.hyper
    settings = {"temperature": hyper["T"], "weak_threshold": hyper["tau_w"], "strong_threshold": hyper["tau_s"]}
    terms = crld_terms(*given_, **settings)
    total = CRLD(within=hyper["wv_weight"], across=hyper["cv_weight"], **settings)(*given_)
    parts = {"wv": hyper["wv_weight"] * terms.within, "cv": hyper["cv_weight"] * terms.across, "total": total}
    for name, loss in parts.items():
        case.check(name, loss, gradient_of(loss, weak))
        case.check(name, loss, gradient_of(loss, strong), wrt="student_strong")
    torch.testing.assert_close(terms.weak_kept.long(), case.tensor("mask_weak"))
    torch.testing.assert_close(terms.strong_kept.long(), case.tensor("mask_strong"))


@QUICK
@given(
    data=logits(max_classes=6),
    temperature=st.floats(0.3, 10),
    thresholds=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_reference(data: Logits, temperature: float, thresholds: tuple[float, float]) -> None:
    weak = (data.student.requires_grad_(), data.teacher)
    strong = (data.student.detach().flip(1).requires_grad_(), data.teacher.roll(1, 1))
    settings = {"temperature": temperature, "weak_threshold": thresholds[0], "strong_threshold": thresholds[1]}
    ours = crld_terms(*weak, *strong, **settings)
    for loss, expected in zip(ours[:2], reference(weak, strong, temperature, thresholds), strict=True):
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
        if expected.requires_grad:
            for student in (weak[0], strong[0]):
                wanted = gradient_of(expected, student)
                torch.testing.assert_close(gradient_of(loss, student), wanted, rtol=1e-9, atol=1e-10)


def test_a_sample_below_the_threshold_adds_nothing_but_counts_in_the_mean() -> None:
    student, teacher, strong, teacher_strong = views(4, 6, seed=0)
    teacher[0], teacher_strong[1] = 0.0, 0.0  # confidence 1/6
    terms = crld_terms(student, teacher, strong, teacher_strong, weak_threshold=0.2, strong_threshold=0.2)
    assert terms.weak_kept.tolist() == [False, True, True, True]
    assert terms.strong_kept.tolist() == [True, False, True, True]
    kept = [view[1:] for view in (student, teacher, strong, teacher_strong)]
    within = kd(kept[0], kept[1]) + kd(kept[2], kept[3])
    torch.testing.assert_close(terms.within, 3 / 4 * within)


def test_a_confidence_at_the_threshold_is_enough() -> None:
    even = torch.zeros(2, 4)
    terms = crld_terms(even, even, even, even, weak_threshold=0.25, strong_threshold=0.26)
    assert terms.weak_kept.all()
    assert not terms.strong_kept.any()


def test_views_that_agree_on_both_sides_cost_nothing() -> None:
    data = make(4, 6, seed=2)
    student = data.teacher.clone().requires_grad_()
    loss = crld(student, data.teacher, student, data.teacher, weak_threshold=0.0, strong_threshold=0.0)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert gradient_of(loss, student).abs().max() < 1e-12


@pytest.mark.usefixtures("unseen_values")
def test_nan_in_any_view_stays_nan_even_where_no_sample_is_kept() -> None:
    for place in range(4):
        given_ = views(4, 6, seed=3)
        given_[place][2, 1] = torch.nan
        assert crld(*given_, weak_threshold=2.0, strong_threshold=2.0).isnan()


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher, strong, teacher_strong = (view.requires_grad_() for view in views(4, 6, seed=4))
    crld(student, teacher, strong, teacher_strong, weak_threshold=0.0).backward()
    assert teacher.grad is None
    assert teacher_strong.grad is None
    assert student.grad is not None
    assert strong.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_saturated_logits_keep_their_value(dtype: torch.dtype) -> None:
    student = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0]], dtype=dtype).requires_grad_()
    teacher = torch.tensor([[9.0, 1, 0, 0], [0, 0, 3e4, -3e4]], dtype=dtype)
    loss = crld(student, teacher, student.flip(1), teacher.flip(1))
    wide = student.detach().double(), teacher.double()
    exact = crld(*wide, *(view.flip(1) for view in wide))
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)
    assert gradient_of(loss, student).isfinite().all()


def test_refused_input() -> None:
    good = torch.zeros(3, 5)
    with pytest.raises(ValueError, match=r"teacher_logits_strong has \(3, 6\)"):
        crld(good, good, good, torch.zeros(3, 6))
    with pytest.raises(ValueError, match="strong_threshold is nan"):
        CRLD(strong_threshold=float("nan"))
    with pytest.raises(ValueError, match="within is inf"):
        crld(good, good, good, good, within=float("inf"))


def test_the_settings_are_shown() -> None:
    shown = "CRLD(within=1.0, across=0.5, temperature=4.0, weak_threshold=0.9, strong_threshold=0.2)"
    assert repr(CRLD(within=1.0)) == shown
