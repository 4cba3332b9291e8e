"""AT against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses.feature.at import AT, at
from stillroom.losses.maps import same_size
from stillroom.losses.numerics import unit_rows
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.at import at as reference


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", cases("feat_at"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_feature").requires_grad_(), case.tensor("teacher_feature")
    loss = at(student, teacher, power=case.hyper["p"])
    case.check("at", loss, gradient_of(loss, student))


@QUICK
@given(
    sizes=st.tuples(*[st.integers(1, 4)] * 4),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    power=st.sampled_from([0.5, 1, 1.5, 2, 4]),
    seed=st.integers(0, 999),
)
def test_reference(sizes: tuple[int, ...], channels: tuple[int, int], power: float, seed: int) -> None:
    student = maps(2, channels[0], *sizes[:2], seed=seed).requires_grad_()
    teacher = 3 * maps(2, channels[1], *sizes[2:], seed=seed + 1)
    ours, theirs = at(student, teacher, power=power), reference(student, teacher, power)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient_of(3 * ours, student), 3 * gradient_of(theirs, student), rtol=1e-8, atol=1e-10)


def test_the_module_sums_the_levels() -> None:
    student = [maps(2, 3, 8, 8), maps(2, 6, 4, 4, seed=1)]
    teacher = [maps(2, 5, 4, 4, seed=2), maps(2, 7, 8, 2, seed=3)]
    expected = at(student[0], teacher[0], power=4) + at(student[1], teacher[1], power=4)
    torch.testing.assert_close(AT(power=4)(tuple(student), tuple(teacher)), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("power", [0.5, 2, 3])
def test_only_the_image_counts(power: float) -> None:
    student, teacher = maps(3, 4, 5, 5), maps(3, 2, 5, 5, seed=1)
    scales = torch.tensor([1e-3, 7.0, -1e4]).double().view(3, 1, 1, 1)
    expected = at(student, teacher, power=power)
    torch.testing.assert_close(at(scales * student.flip(1), teacher, power=power), expected, rtol=1e-12, atol=0)
    repeated = student.repeat(1, 3, 1, 1).requires_grad_()
    same = at(repeated, scales * student, power=power)
    assert same < 1e-30
    assert gradient_of(same, repeated).abs().max() < 1e-14


@pytest.mark.parametrize("power", [0.5, 1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_zeros_stay_finite(dtype: torch.dtype, power: float) -> None:
    student = maps(3, 4, 4, 4).relu().to(dtype)
    student[0] = 0
    student, teacher = student.requires_grad_(), torch.zeros(3, 2, 4, 4, dtype=dtype)
    loss = at(student, teacher, power=power)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(2 / 3 / 16, rel=1e-5)  # an image of length 1 against none, in two of three
    assert gradient_of(loss, student).isfinite().all()
    assert gradient_of(loss, student)[0].abs().max() == 0


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1e4, 1e30])
@pytest.mark.parametrize("power", [0.5, 2, 8])
def test_any_magnitude_has_the_same_image(scale: float, power: float) -> None:
    student, teacher = maps(2, 3, 4, 4).float(), maps(2, 3, 4, 4, seed=1).float()
    scaled = (scale * student).requires_grad_()
    loss = at(scaled, teacher / scale, power=power)
    torch.testing.assert_close(loss, at(student, teacher, power=power), rtol=1e-4, atol=0)
    assert gradient_of(loss, scaled).isfinite().all()


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = (100 * maps(2, 3, 8, 8)).half().requires_grad_(), (300 * maps(2, 5, 4, 4, seed=1)).half()
    loss = at(student, teacher)
    exact = at(student.detach().double(), teacher.double())
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)
    assert gradient_of(loss, student).dtype == torch.float16


@pytest.mark.parametrize(("large", "small"), [((8, 8), (4, 2)), ((7, 5), (3, 5)), ((5, 3), (5, 3))])
def test_pooling_is_adaptive_average_pooling(large: tuple[int, int], small: tuple[int, int]) -> None:
    first, second = maps(2, 3, *large), maps(2, 5, *small, seed=1)
    pooled, kept = same_size(first, second)
    torch.testing.assert_close(pooled, torch.nn.functional.adaptive_avg_pool2d(first, small))
    assert kept is second


def test_each_side_is_pooled_by_itself() -> None:
    first, second = same_size(maps(1, 1, 8, 2), maps(1, 1, 4, 6))
    assert first.shape == second.shape == (1, 1, 4, 2)


def test_the_gradient_of_a_direction() -> None:
    x = maps(3, 5).requires_grad_()
    assert torch.autograd.gradcheck(unit_rows, (x,))


def test_autocast_changes_nothing() -> None:
    student, teacher = maps(2, 3, 7, 7).float().requires_grad_(), maps(2, 5, 3, 3, seed=1).float()
    plain = at(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert at(student, teacher) == plain


@pytest.mark.usefixtures("unseen_values")
def test_a_nan_is_not_hidden_and_the_teacher_is_left_alone() -> None:
    student, teacher = maps(2, 3, 4, 4).requires_grad_(), maps(2, 3, 4, 4, seed=1).requires_grad_()
    at(student, teacher).backward()
    assert teacher.grad is None
    for broken in (student, teacher):
        spoilt = broken.detach().clone()
        spoilt[1, 2, 3, 0] = torch.nan
        assert at(*((spoilt, teacher) if broken is student else (student, spoilt)), power=0.5).isnan()


def test_refused() -> None:
    with pytest.raises(ValueError, match="power is 0"):
        AT(power=0)
    with pytest.raises(ValueError, match="power is -1"):
        at(maps(1, 1, 1, 1), maps(1, 1, 1, 1), power=-1)
    with pytest.raises(ValueError, match=r"teacher_map has shape \(2, 3\)"):
        at(maps(2, 3, 1, 1), maps(2, 3))
    with pytest.raises(ValueError, match="teacher_map has batch size 3"):
        at(maps(2, 3, 1, 1), maps(3, 3, 1, 1))
    with pytest.raises(ValueError, match=r"student_maps has 1 and teacher_maps 2 levels"):
        AT()([maps(2, 3, 1, 1)], [maps(2, 3, 1, 1)] * 2)
