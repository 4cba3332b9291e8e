"""NormKD against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses import NormDKD, NormKD, kd, normdkd, normkd
from stillroom.losses.finite import NotFinite
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.normkd import normdkd_terms as reference_terms
from tests.references.normkd import normkd as reference


@pytest.mark.parametrize("case", cases("normkd"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher, target = (case.tensor(name) for name in ("student_logits", "teacher_logits", "target"))
    student, factor = student.requires_grad_(), case.hyper["t_norm"]
    losses = {
        "normkd": NormKD(factor)(student, teacher),
        "tckd": normdkd(student, teacher, target, alpha=1.0, beta=0.0, factor=factor),
        "nckd": normdkd(student, teacher, target, alpha=0.0, beta=1.0, factor=factor),
        "normkd_dkd": NormDKD(case.hyper["alpha"], case.hyper["beta"], factor)(student, teacher, target),
    }
    for name, loss in losses.items():
        case.check(name, loss, gradient_of(loss, student))


@QUICK
@given(data=logits(max_classes=6), factor=st.floats(0.2, 5))
def test_reference(data: Logits, factor: float) -> None:
    student = data.student.requires_grad_()
    ours = [normkd(student, data.teacher, factor=factor)]
    for alpha, beta in ((1.0, 0.0), (0.0, 1.0)):
        ours.append(normdkd(student, data.teacher, data.target, alpha=alpha, beta=beta, factor=factor))
    theirs = [reference(student, data.teacher, factor), *reference_terms(student, data.teacher, data.target, factor)]
    for loss, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-6, atol=1e-9)


def test_logits_of_one_spread_make_it_kd() -> None:
    data = make(4, 8, seed=0)
    student, teacher = (3 * x / x.std(1, keepdim=True) for x in (data.student, data.teacher))
    torch.testing.assert_close(normkd(student, teacher, factor=1.5), kd(student, teacher, temperature=4.5))


@QUICK
@given(data=logits(), scale=st.floats(0.01, 100))
def test_agreement_up_to_scale_costs_nothing(data: Logits, scale: float) -> None:
    student = (scale * data.teacher + 3).requires_grad_()
    size = data.teacher.square().sum()
    for loss in (normkd(student, data.teacher), normdkd(student, data.teacher, data.target)):
        assert abs(loss) <= 1e-10 * size
        assert (gradient_of(loss, student) * scale).abs().max() <= 1e-10 * size


def test_the_loss_grows_with_the_square_of_the_teacher_only() -> None:
    data = make(4, 8, seed=1)
    plain = normkd(data.student, data.teacher)
    torch.testing.assert_close(normkd(1e6 * data.student, data.teacher), plain)
    torch.testing.assert_close(normkd(data.student, 1e6 * data.teacher), 1e12 * plain)


@pytest.mark.parametrize("constant", [0.0, 3.0, -1e20])
def test_constant_rows_stay_finite(constant: float) -> None:
    data = make(3, 8, seed=2)
    for side in ("student", "teacher"):
        pair = {"student": data.student.float(), "teacher": data.teacher.float()}
        pair[side][1] = constant
        student = pair["student"].requires_grad_()
        for loss in (normkd(student, pair["teacher"]), normdkd(student, pair["teacher"], data.target)):
            assert loss.isfinite()
            assert gradient_of(loss, student).isfinite().all()


def test_a_constant_row_of_the_teacher_teaches_nothing() -> None:
    data = make(3, 8, seed=3)
    data.teacher[1] = 5.0
    student = data.student.requires_grad_()
    gradient = gradient_of(normkd(student, data.teacher), student)
    assert gradient[1].abs().max() < 1e-12
    assert gradient[0].abs().max() > 1e-3


@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e12, 1e16])
def test_large_teachers_keep_float32s_precision(scale: float) -> None:
    data = make(3, 8, seed=4)
    student, teacher = data.student.float(), (scale * data.teacher).float()
    exact = normkd(student.double(), teacher.double())
    torch.testing.assert_close(normkd(student, teacher).double(), exact, rtol=1e-5, atol=0)


def test_a_teacher_beyond_float32_is_refused() -> None:
    data = make(3, 8, seed=5)
    student, teacher = data.student.float(), (1e20 * data.teacher).float()
    with pytest.raises(NotFinite, match=r"teacher_logits has values up to .*too large for this loss in float32"):
        normkd(student, teacher)
    with pytest.raises(NotFinite, match="teacher_logits"):
        normdkd(1e-20 * student, 1e-3 * teacher, data.target)  # the gradient is too large
    assert normkd(student.double(), teacher.double()).isfinite()


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_refused_factors(factor: float) -> None:
    for module in (NormKD, NormDKD):
        with pytest.raises(ValueError, match=f"factor is {factor}"):
            module(factor=factor)
    with pytest.raises(ValueError, match=f"factor is {factor}"):
        normkd(torch.zeros(3, 5), torch.zeros(3, 5), factor=factor)


def test_refused_weights_targets_and_reductions() -> None:
    with pytest.raises(ValueError, match="beta is nan"):
        NormDKD(beta=float("nan"))
    with pytest.raises(ValueError, match=r"target has shape \(2,\)"):
        normdkd(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(2).long())
    with pytest.raises(ValueError, match="reduction is 'sum'"):
        normkd(torch.zeros(3, 5), torch.zeros(3, 5), reduction="sum")  # type: ignore[arg-type]
