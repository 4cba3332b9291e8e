"""FSP against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses.feature.fsp import FSP, fsp
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.fsp import fsp as reference


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", cases("feat_fsp"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student = [case.tensor(f"student_feature_{level}").requires_grad_() for level in "ab"]
    loss = fsp(student, [case.tensor(f"teacher_feature_{level}") for level in "ab"])
    case.check("fsp", loss, gradient_of(loss, student[0]))
    case.check("fsp", loss, gradient_of(loss, student[1]), wrt="student_feature_b")


@QUICK
@given(
    sides=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)), min_size=2, max_size=3),
    teacher_side=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_reference(sides: list[tuple[int, int, int]], teacher_side: int, seed: int) -> None:
    student = [maps(2, c, h, w, seed=seed + i).requires_grad_() for i, (h, w, c) in enumerate(sides)]
    teacher = [maps(2, c, teacher_side, teacher_side, seed=seed + 9 + i) for i, (_, _, c) in enumerate(sides)]
    ours, theirs = fsp(student, teacher), reference(student, teacher)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    for level in student:
        torch.testing.assert_close(gradient_of(3 * ours, level), 3 * gradient_of(theirs, level), rtol=1e-8, atol=1e-10)


def test_agreement_costs_nothing_and_pulls_nowhere() -> None:
    teacher = [maps(2, 3, 8, 8), maps(2, 4, 4, 4, seed=1), maps(2, 5, 4, 4, seed=2)]
    student = [level.clone().requires_grad_() for level in teacher]
    loss = FSP()(tuple(student), tuple(teacher))
    assert loss == 0
    assert all(gradient_of(loss, level).abs().max() == 0 for level in student)


def test_the_loss_grows_with_the_fourth_power() -> None:
    student, teacher = [maps(2, 3, 4, 4), maps(2, 4, 4, 4)], [maps(2, 3, 4, 4, seed=1), maps(2, 4, 4, 4, seed=2)]
    doubled = fsp([2 * level for level in student], [2 * level for level in teacher])
    torch.testing.assert_close(doubled, 16 * fsp(student, teacher), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    student = [(100 * maps(2, 3, 8, 8)).to(dtype).requires_grad_(), (100 * maps(2, 4, 4, 4)).to(dtype)]
    teacher = [(300 * maps(2, 3, 8, 8, seed=1)).to(dtype), (300 * maps(2, 4, 4, 4, seed=1)).to(dtype)]
    loss = fsp(student, teacher)  # about 1e9: float16 ends at 65504
    exact = fsp([level.detach().double() for level in student], [level.double() for level in teacher])
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)
    assert gradient_of(1e-6 * loss, student[0]).dtype == dtype
    assert gradient_of(1e-6 * loss, student[0]).isfinite().all()


def test_zero_maps_have_no_gradient() -> None:
    student = [torch.zeros(1, 3, 4, 4, requires_grad=True), torch.zeros(1, 4, 2, 2, requires_grad=True)]
    loss = fsp(student, [torch.ones(1, 3, 4, 4), torch.ones(1, 4, 2, 2)])
    assert loss == 1
    assert gradient_of(loss, student[0]).abs().max() == 0


def test_autocast_changes_nothing() -> None:
    student = [maps(2, 3, 7, 7).float().requires_grad_(), maps(2, 4, 3, 3).float()]
    teacher = [maps(2, 3, 7, 7, seed=1).float(), maps(2, 4, 3, 3, seed=1).float()]
    plain = fsp(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert fsp(student, teacher) == plain


@pytest.mark.usefixtures("unseen_values")
def test_a_nan_is_not_hidden_and_the_teacher_is_left_alone() -> None:
    student = [maps(2, 3, 4, 4).requires_grad_(), maps(2, 4, 2, 2)]
    teacher = [maps(2, 3, 4, 4, seed=1).requires_grad_(), maps(2, 4, 2, 2, seed=1)]
    fsp(student, teacher).backward()
    assert teacher[0].grad is None
    spoilt = teacher[0].detach().clone()
    spoilt[1, 2, 3, 0] = torch.nan
    assert fsp(student, [spoilt, teacher[1]]).isnan()
    assert fsp([spoilt, student[1]], teacher).isnan()


def test_stages() -> None:
    assert (FSP().initial_epochs, FSP().final_epoch) == (0, None)
    assert (FSP(initial_epochs=30).initial_epochs, FSP(initial_epochs=30).final_epoch) == (30, 30)
    with pytest.raises(ValueError, match="initial_epochs is -1"):
        FSP(initial_epochs=-1)


def test_refused() -> None:
    with pytest.raises(ValueError, match="student_maps has 1 level: FSP needs two"):
        fsp([maps(2, 3, 4, 4)], [maps(2, 3, 4, 4)])
    with pytest.raises(ValueError, match=r"student_maps\[1\] has 4 channels but teacher_maps\[1\] has 5"):
        FSP()([maps(2, 3, 4, 4), maps(2, 4, 4, 4)], [maps(2, 3, 4, 4), maps(2, 5, 4, 4)])
    with pytest.raises(ValueError, match=r"teacher_maps\[1\] has shape \(2, 4\)"):
        fsp([maps(2, 3, 4, 4), maps(2, 4, 4, 4)], [maps(2, 3, 4, 4), maps(2, 4)])
