"""RKD against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses.feature.rkd import RKD, rkd, rkd_terms
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.rkd import rkd_terms as reference


def embeddings(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", cases("feat_rkd"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_feature").requires_grad_(), case.tensor("teacher_feature")
    terms = rkd_terms(student, teacher)
    total = rkd(student, teacher, distance=case.hyper["w_d"], angle=case.hyper["w_a"])
    for name, loss in (("rkd_distance", terms.distance), ("rkd_angle", terms.angle), ("total", total)):
        case.check(name, loss, gradient_of(loss, student))


@pytest.mark.parametrize("squared", [False, True])
@QUICK
@given(batch=st.integers(1, 4), widths=st.tuples(st.integers(1, 4), st.integers(1, 4)), seed=st.integers(0, 999))
def test_reference(squared: bool, batch: int, widths: tuple[int, int], seed: int) -> None:
    student = (embeddings(batch, widths[0], seed=seed) + 10).requires_grad_()
    teacher = 5 * embeddings(batch, widths[1], seed=seed + 1)
    found, expected = rkd_terms(student, teacher, squared=squared), reference(student, teacher, 1 + squared)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
        if theirs.requires_grad:  # one sample has neither distance nor angle
            torch.testing.assert_close(
                gradient_of(3 * ours, student), 3 * gradient_of(theirs, student), rtol=1e-8, atol=1e-8
            )


def test_coinciding_samples_as_in_the_definition() -> None:
    start = embeddings(5, 3)
    start[1] = start[3]
    student, teacher = start.requires_grad_(), embeddings(5, 4, seed=1)
    for ours, theirs in zip(rkd_terms(student, teacher), reference(student, teacher), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient_of(ours, student), gradient_of(theirs, student), rtol=1e-9, atol=1e-12)


def test_squared_distances_change_the_distance_part_only() -> None:
    student, teacher = embeddings(6, 5), embeddings(6, 4, seed=1)
    plain, squared = rkd_terms(student, teacher), rkd_terms(student, teacher, squared=True)
    assert torch.equal(squared.angle, plain.angle)
    near, far = ((x[:, None] - x[None]).square().sum(2) for x in (student, teacher))
    relative = [x / (x.sum() / 30) for x in (near, far)]
    torch.testing.assert_close(squared.distance, torch.nn.functional.smooth_l1_loss(*relative))
    expected = 25 * squared.distance + 50 * squared.angle
    torch.testing.assert_close(RKD(squared=True)(student, teacher), expected)


def test_motion_rotation_and_scale_do_not_matter() -> None:
    teacher = embeddings(6, 5)
    rotation = torch.linalg.qr(embeddings(5, 5, seed=1))[0]
    student = (3 * teacher @ rotation + 7).requires_grad_()
    loss = RKD()(student, teacher)
    assert loss < 1e-25
    assert gradient_of(loss, student).abs().max() < 1e-11


def test_two_samples_have_a_distance_but_no_choice() -> None:
    student = embeddings(2, 5).requires_grad_()
    loss = rkd(student, embeddings(2, 3, seed=1))
    assert loss < 1e-25
    assert gradient_of(loss, student).abs().max() < 1e-12


def test_one_sample_has_nothing_to_say() -> None:
    student = embeddings(1, 5).requires_grad_()
    loss = rkd(student, embeddings(1, 3, seed=1))
    assert loss == 0
    assert gradient_of(loss, student).abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_equal_samples_stay_finite(dtype: torch.dtype) -> None:
    student = embeddings(6, 4).to(dtype)
    student[1] = student[2]
    student[0] = 0
    for start in (student, torch.ones_like(student), student[:1].expand(6, -1)):
        leaf = start.clone().requires_grad_()
        for teacher in (embeddings(6, 3, seed=1).to(dtype), torch.full((6, 3), 0.1, dtype=dtype)):
            loss = rkd(leaf, teacher)
            assert loss.dtype == torch.float32
            assert loss.isfinite()
            assert gradient_of(loss, leaf).isfinite().all()


@pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-5, 1e-7, 1e-9, 1e-20, 1e-40])
def test_nearly_equal_samples_stay_finite(gap: float) -> None:
    student = embeddings(5, 4).float()
    student[1] = 0
    student[2] = gap
    student = student.requires_grad_()
    loss = rkd(student, embeddings(5, 3, seed=1).float())
    assert loss.isfinite()
    assert gradient_of(loss, student).isfinite().all()


@pytest.mark.parametrize("gap", [1e-10, 1e-17, 1e-20])
def test_nearly_equal_samples_in_the_middle_stay_finite(gap: float) -> None:
    # The mean is tiny, so that centring does not round the gap away.
    student = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [0.0, 0.0], [gap, gap]], requires_grad=True)
    loss = rkd(student, embeddings(4, 3, seed=1).float())
    assert loss.isfinite()
    assert gradient_of(loss, student).isfinite().all()


def test_float32_gradients_far_from_the_origin() -> None:
    student, teacher = (1000 + embeddings(12, 32)).float(), embeddings(12, 32, seed=1).float()
    single, double = student.clone().requires_grad_(), student.double().requires_grad_()
    ours, exact = rkd(single, teacher), rkd(double, teacher.double())
    expected = gradient_of(exact, double)
    assert (gradient_of(ours, single).double() - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize(("spread", "tolerance"), [(1.0, 1e-6), (1e-2, 1e-5), (1e-3, 1e-4)])
def test_float32_keeps_tight_classes_apart(spread: float, tolerance: float) -> None:
    # Tight clusters far from the origin: products of embeddings would lose the differences.
    centres = 10 + embeddings(4, 64, seed=2)
    student = centres.repeat(4, 1) + spread * embeddings(16, 64)
    teacher = centres.repeat(4, 1) + spread * embeddings(16, 64, seed=1)
    student, teacher = student.float(), teacher.float()
    single, double = student.clone().requires_grad_(), student.double().requires_grad_()
    for ours, exact in zip(rkd_terms(single, teacher), rkd_terms(double, teacher.double()), strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=tolerance, atol=tolerance / 10)
        difference = gradient_of(ours, single).double() - gradient_of(exact, double)
        assert difference.norm() <= 30 * tolerance * gradient_of(exact, double).norm()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_magnitude(scale: float) -> None:
    student, teacher = embeddings(5, 4).float(), embeddings(5, 3, seed=1).float()
    scaled = (scale * student).requires_grad_()
    loss = rkd(scaled, teacher / scale)
    torch.testing.assert_close(loss, rkd(student, teacher), rtol=1e-4, atol=0)
    assert gradient_of(loss, scaled).isfinite().all()


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = (100 * embeddings(6, 50)).half().requires_grad_(), (1000 * embeddings(6, 70, seed=1)).half()
    loss = rkd(student, teacher)
    torch.testing.assert_close(loss.double(), rkd(student.detach().double(), teacher.double()), rtol=1e-4, atol=0)
    assert gradient_of(loss, student).dtype == torch.float16


def test_autocast_changes_nothing() -> None:
    student, teacher = embeddings(5, 4).float().requires_grad_(), embeddings(5, 7, seed=1).float()
    plain = rkd(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert RKD()(student, teacher) == plain


@pytest.mark.usefixtures("unseen_values")
def test_a_nan_is_not_hidden_and_the_teacher_is_left_alone() -> None:
    student, teacher = embeddings(3, 4).requires_grad_(), embeddings(3, 4, seed=1).requires_grad_()
    rkd(student, teacher).backward()
    assert teacher.grad is None
    for broken in (student, teacher):
        spoilt = broken.detach().clone()
        spoilt[1, 2] = torch.nan
        terms = rkd_terms(*((spoilt, teacher) if broken is student else (student, spoilt)))
        assert terms.distance.isnan()
        assert terms.angle.isnan()


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"student_embedding has shape \(3,\)"):
        rkd(embeddings(3), embeddings(3, 2))
    with pytest.raises(ValueError, match="teacher_embedding has batch size 4"):
        rkd(embeddings(3, 2), embeddings(4, 2))
    with pytest.raises(ValueError, match="angle is nan"):
        RKD(angle=float("nan"))
    with pytest.raises(ValueError, match="distance is inf"):
        rkd(embeddings(3, 2), embeddings(3, 2), distance=float("inf"))
