"""SP against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses.feature.sp import SP, sp
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.sp import sp as reference


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", cases("feat_sp"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_feature").requires_grad_(), case.tensor("teacher_feature")
    loss = sp(student, teacher)
    # The public code returns a vector of one number.
    case.check("sp", loss.reshape(case.tensor("loss_sp").shape), gradient_of(loss, student))


@QUICK
@given(batch=st.integers(1, 5), widths=st.tuples(st.integers(1, 4), st.integers(1, 4)), seed=st.integers(0, 999))
def test_reference(batch: int, widths: tuple[int, int], seed: int) -> None:
    student = features(batch, widths[0], 2, seed=seed).requires_grad_()
    teacher = 5 * features(batch, widths[1], seed=seed + 1)
    ours, theirs = sp(student, teacher), reference(student, teacher)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient_of(3 * ours, student), 3 * gradient_of(theirs, student), rtol=1e-8, atol=1e-10)


def test_the_module_takes_the_deepest_level() -> None:
    student = (features(4, 3, 8, 8), features(4, 6, 4, 4, seed=1))
    teacher = (features(4, 5, 8, 8, seed=2), features(4, 7, seed=3))
    assert SP()(student, teacher) == sp(student[1], teacher[1])


def test_rotation_and_scale_do_not_matter() -> None:
    teacher = features(6, 5)
    rotation = torch.linalg.qr(features(5, 5, seed=1))[0]
    student = (3 * teacher @ rotation).requires_grad_()
    loss = sp(student, teacher)
    assert loss < 1e-28
    assert gradient_of(loss, student).abs().max() < 1e-12


def test_a_shift_matters() -> None:
    assert sp(features(6, 5) + 1, features(6, 5)) > 1e-3


def test_one_sample_has_nothing_to_say() -> None:
    student = features(1, 5).requires_grad_()
    loss = sp(student, features(1, 3, seed=1))
    assert loss == 0
    assert gradient_of(loss, student).abs().max() < 1e-15


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_zero_and_equal_samples_stay_finite(dtype: torch.dtype) -> None:
    student = features(5, 4).to(dtype)
    student[0] = 0
    student[1] = student[2]
    for start in (student, torch.zeros_like(student)):
        leaf = start.clone().requires_grad_()
        loss = sp(leaf, features(5, 3, seed=1).to(dtype))
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert gradient_of(loss, leaf).abs().max() < 10


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_magnitude(scale: float) -> None:
    student, teacher = features(5, 4).float(), features(5, 3, seed=1).float()
    scaled = (scale * student).requires_grad_()
    loss = sp(scaled, teacher / scale)
    torch.testing.assert_close(loss, sp(student, teacher), rtol=1e-4, atol=0)
    assert gradient_of(loss, scaled).isfinite().all()


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = (100 * features(6, 50)).half().requires_grad_(), (1000 * features(6, 70, seed=1)).half()
    loss = sp(student, teacher)
    torch.testing.assert_close(loss.double(), sp(student.detach().double(), teacher.double()), rtol=1e-5, atol=0)
    assert gradient_of(loss, student).dtype == torch.float16


def test_autocast_changes_nothing() -> None:
    student, teacher = features(5, 3, 2, 2).float().requires_grad_(), features(5, 7, seed=1).float()
    plain = sp(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert sp(student, teacher) == plain


@pytest.mark.usefixtures("unseen_values")
def test_a_nan_is_not_hidden_and_the_teacher_is_left_alone() -> None:
    student, teacher = features(3, 4).requires_grad_(), features(3, 4, seed=1).requires_grad_()
    sp(student, teacher).backward()
    assert teacher.grad is None
    for broken in (student, teacher):
        spoilt = broken.detach().clone()
        spoilt[1, 2] = torch.nan
        assert sp(*((spoilt, teacher) if broken is student else (student, spoilt))).isnan()


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"student_feature has shape \(3,\): it must be \(B, ...\)"):
        sp(features(3), features(3, 2))
    with pytest.raises(ValueError, match="teacher_feature has batch size 4"):
        sp(features(3, 2), features(4, 2))
    with pytest.raises(ValueError, match="student_features has 0 and teacher_features 1 levels"):
        SP()((), (features(3, 2),))
