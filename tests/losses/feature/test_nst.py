"""NST against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses.feature import nst as module
from stillroom.losses.feature.nst import NST, nst
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.nst import nst as reference


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", cases("feat_nst"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_feature").requires_grad_(), case.tensor("teacher_feature")
    loss = nst(student, teacher)
    case.check("nst", loss, gradient_of(loss, student))


@QUICK
@given(
    sizes=st.tuples(*[st.integers(1, 3)] * 4),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 999),
)
def test_reference(sizes: tuple[int, ...], channels: tuple[int, int], seed: int) -> None:
    student = maps(2, channels[0], *sizes[:2], seed=seed).requires_grad_()
    teacher = 3 * maps(2, channels[1], *sizes[2:], seed=seed + 1)
    ours, theirs = nst(student, teacher), reference(student, teacher)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient_of(3 * ours, student), 3 * gradient_of(theirs, student), rtol=1e-8, atol=1e-10)


@QUICK
@given(channels=st.tuples(st.integers(1, 9), st.integers(1, 9)), places=st.integers(1, 9), seed=st.integers(0, 999))
def test_both_ways_to_compute_agree(channels: tuple[int, int], places: int, seed: int) -> None:
    student, teacher = maps(2, channels[0], places, seed=seed).requires_grad_(), maps(2, channels[1], places)
    first, second = module._over_places(student, teacher), module._over_channels(student, teacher)
    torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient_of(first, student), gradient_of(second, student), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("channels", "side", "way"), [(64, 4, "_over_places"), (8, 16, "_over_channels")])
def test_the_smaller_product_is_formed(channels: int, side: int, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, way, lambda student, teacher: "taken")
    assert nst(maps(1, channels, side, side), maps(1, channels, side, side)) == "taken"


def test_the_module_sums_the_levels() -> None:
    student = (maps(2, 3, 8, 8), maps(2, 6, 4, 4, seed=1))
    teacher = (maps(2, 5, 4, 4, seed=2), maps(2, 7, 4, 2, seed=3))
    expected = nst(student[0], teacher[0]) + nst(student[1], teacher[1])
    torch.testing.assert_close(NST()(student, teacher), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("side", [2, 6])
def test_order_sign_and_scale_of_channels_do_not_matter(side: int) -> None:
    teacher = maps(3, 5, side, side)
    factors = torch.tensor([2.0, -1, 1e-3, 40, -7]).double().view(5, 1, 1)
    student = (factors * teacher)[:, [3, 0, 4, 2, 1]].repeat(1, 2, 1, 1).requires_grad_()
    loss = nst(student, teacher)
    assert abs(loss) < 1e-14
    assert gradient_of(loss, student).abs().max() < 1e-10


@pytest.mark.parametrize("side", [2, 6])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dead_channels_stay_finite(dtype: torch.dtype, side: int) -> None:
    student = maps(3, 4, side, side).relu().to(dtype)
    student[:, 1] = 0
    student[2] = 0
    student = student.requires_grad_()
    for teacher in (maps(3, 5, side, side, seed=1).to(dtype), torch.zeros(3, 5, side, side, dtype=dtype)):
        loss = nst(student, teacher)
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert gradient_of(loss, student).isfinite().all()
        assert gradient_of(loss, student)[2].abs().max() == 0


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_magnitude(scale: float) -> None:
    student, teacher = maps(2, 3, 4, 4).float(), maps(2, 5, 4, 4, seed=1).float()
    scaled = (scale * student).requires_grad_()
    loss = nst(scaled, teacher / scale)
    torch.testing.assert_close(loss, nst(student, teacher), rtol=1e-4, atol=0)
    assert gradient_of(loss, scaled).isfinite().all()


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = (100 * maps(2, 3, 8, 8)).half().requires_grad_(), (300 * maps(2, 5, 4, 4, seed=1)).half()
    loss = nst(student, teacher)
    torch.testing.assert_close(loss.double(), nst(student.detach().double(), teacher.double()), rtol=1e-5, atol=0)
    assert gradient_of(loss, student).dtype == torch.float16


@pytest.mark.parametrize("side", [2, 6])
def test_autocast_and_compile_change_nothing(side: int) -> None:
    student, teacher = maps(2, 5, side, side).float().requires_grad_(), maps(2, 4, side, side, seed=1).float()
    plain = nst(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert nst(student, teacher) == plain
    compiled = torch.compile(NST(), fullgraph=True, backend="aot_eager")((student,), (teacher,))
    torch.testing.assert_close(torch.autograd.grad(compiled, student)[0], gradient_of(plain, student))


@pytest.mark.usefixtures("unseen_values")
def test_a_nan_is_not_hidden_and_the_teacher_is_left_alone() -> None:
    student, teacher = maps(2, 3, 4, 4).requires_grad_(), maps(2, 3, 4, 4, seed=1).requires_grad_()
    nst(student, teacher).backward()
    assert teacher.grad is None
    for broken in (student, teacher):
        spoilt = broken.detach().clone()
        spoilt[1, 2, 3, 0] = torch.nan
        assert nst(*((spoilt, teacher) if broken is student else (student, spoilt))).isnan()


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"student_map has shape \(2, 3\)"):
        nst(maps(2, 3), maps(2, 3, 1, 1))
    with pytest.raises(ValueError, match="teacher_map has batch size 3"):
        nst(maps(2, 3, 1, 1), maps(3, 3, 1, 1))
    with pytest.raises(ValueError, match=r"student_maps has 0 and teacher_maps 0 levels"):
        NST()((), ())
