"""PKT against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses.feature.pkt import PKT, pkt
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.pkt import pkt as reference


def embeddings(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", cases("feat_pkt"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_feature").requires_grad_(), case.tensor("teacher_feature")
    loss = pkt(student, teacher)
    case.check("pkt", loss, gradient_of(loss, student))


@QUICK
@given(
    batch=st.integers(1, 5),
    widths=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    scale=st.sampled_from([1e-6, 1.0, 1e3]),
    seed=st.integers(0, 999),
)
def test_reference(batch: int, widths: tuple[int, int], scale: float, seed: int) -> None:
    student = (scale * embeddings(batch, widths[0], seed=seed)).requires_grad_()
    teacher = 5 * embeddings(batch, widths[1], seed=seed + 1)
    ours, theirs = pkt(student, teacher), reference(student, teacher)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        scale * gradient_of(3 * ours, student), scale * 3 * gradient_of(theirs, student), rtol=1e-8, atol=1e-10
    )


def test_rotation_and_scale_do_not_matter() -> None:
    teacher = embeddings(6, 5)
    rotation = torch.linalg.qr(embeddings(5, 5, seed=1))[0]
    scales = torch.tensor([3.0, 0.1, 20, 1, 5, 400]).double().view(6, 1)
    student = (scales * teacher @ rotation).requires_grad_()
    loss = pkt(student, teacher)
    assert abs(loss) < 1e-8  # the guards of 1e-7 are seen
    assert gradient_of(loss, student).abs().max() < 1e-6


def test_angles_between_samples_matter() -> None:
    assert pkt(embeddings(6, 5) + 1, embeddings(6, 5)) > 1e-3


def test_one_sample_has_nothing_to_say() -> None:
    student = embeddings(1, 5).requires_grad_()
    loss = pkt(student, embeddings(1, 3, seed=1))
    assert loss == 0
    assert gradient_of(loss, student).abs().max() < 1e-15


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_zero_equal_and_opposite_samples_stay_finite(dtype: torch.dtype) -> None:
    student = embeddings(6, 40).to(dtype)
    student[0] = 0
    student[1] = student[2]
    student[3] = -student[4]
    for start in (student, torch.zeros_like(student)):
        leaf = start.clone().requires_grad_()
        loss = pkt(leaf, embeddings(6, 3, seed=1).to(dtype))
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert gradient_of(loss, leaf).abs().max() < 10  # not 1 / 1e-7 for a zero sample


def test_opposite_samples_never_have_a_negative_probability() -> None:
    for seed in range(200):
        student = embeddings(1, 64, seed=seed).float()
        student = torch.cat([student, -student]).requires_grad_()
        loss = pkt(student, torch.eye(2))
        assert loss.isfinite()
        assert gradient_of(loss, student).isfinite().all()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_magnitude_stays_finite(scale: float) -> None:
    student, teacher = (scale * embeddings(5, 4).float()).requires_grad_(), (embeddings(5, 3, seed=1) / scale).float()
    loss = pkt(student, teacher)
    assert loss.isfinite()
    assert gradient_of(loss, student).isfinite().all()


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = (100 * embeddings(6, 50)).half().requires_grad_(), (1000 * embeddings(6, 70, seed=1)).half()
    loss = pkt(student, teacher)
    torch.testing.assert_close(loss.double(), pkt(student.detach().double(), teacher.double()), rtol=1e-4, atol=0)
    assert gradient_of(loss, student).dtype == torch.float16


def test_autocast_changes_nothing() -> None:
    student, teacher = embeddings(5, 4).float().requires_grad_(), embeddings(5, 7, seed=1).float()
    plain = pkt(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert PKT()(student, teacher) == plain


@pytest.mark.usefixtures("unseen_values")
def test_a_nan_is_not_hidden_and_the_teacher_is_left_alone() -> None:
    student, teacher = embeddings(3, 4).requires_grad_(), embeddings(3, 4, seed=1).requires_grad_()
    pkt(student, teacher).backward()
    assert teacher.grad is None
    for broken in (student, teacher):
        spoilt = broken.detach().clone()
        spoilt[1, 2] = torch.nan
        assert pkt(*((spoilt, teacher) if broken is student else (student, spoilt))).isnan()


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"student_embedding has shape \(3, 2, 1\)"):
        pkt(embeddings(3, 2, 1), embeddings(3, 2))
    with pytest.raises(ValueError, match="teacher_embedding has batch size 4"):
        pkt(embeddings(3, 2), embeddings(4, 2))
