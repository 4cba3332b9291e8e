"""WKD-F against the public code's numbers and against its definition, and its projector."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stillroom.losses import WKDF, wkd_f
from stillroom.losses.finite import NotFinite
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.wkd_f import wkd_f as reference


@pytest.mark.parametrize("case", cases("feat_wkd_f"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher, hyper = case.tensor("student_feature"), case.tensor("teacher_feature"), case.hyper
    student.requires_grad_()
    deviations, both, total = (
        wkd_f(student, teacher, grid=hyper["grid"], ratio=ratio, epsilon=hyper["eps"])
        for ratio in (0.0, 1.0, hyper["ratio"])
    )
    for name, loss in (("mean", both - deviations), ("cov", deviations), ("total", total)):
        case.check(name, loss, gradient_of(loss, student))


@QUICK
@given(
    sizes=st.tuples(*[st.integers(3, 6)] * 4), grid=st.integers(1, 3), ratio=st.floats(0, 8), seed=st.integers(0, 9999)
)
def test_reference(sizes: tuple[int, ...], grid: int, ratio: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(2, 2, *size, generator=generator).double() for size in (sizes[:2], sizes[2:]))
    student.requires_grad_()
    ours = wkd_f(student, teacher, grid=grid, ratio=ratio)
    theirs = reference(student, teacher, grid, ratio, 1e-5)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(gradient_of(ours, student), gradient_of(theirs, student), rtol=1e-9, atol=1e-11)


def test_equal_statistics_cost_nothing_wherever_they_are() -> None:
    teacher = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    student = teacher.flip(2).requires_grad_()
    loss = wkd_f(student, teacher)
    assert loss < 1e-25
    assert gradient_of(loss, student).abs().max() < 1e-12
    assert wkd_f(student, teacher, grid=2) > 0.1


def test_a_cell_of_one_place_has_no_deviation() -> None:
    student, teacher = torch.zeros(1, 2, 2, 2, requires_grad=True), torch.ones(1, 2, 2, 2)
    loss = wkd_f(student, teacher, grid=2, ratio=3.0)
    torch.testing.assert_close(loss, torch.tensor(6.0))
    assert gradient_of(loss, student).isfinite().all()


def test_constant_maps_have_a_gradient() -> None:
    student = torch.ones(1, 2, 4, 4, requires_grad=True)
    assert gradient_of(wkd_f(student, torch.randn(1, 2, 4, 4)), student).isfinite().all()


@pytest.mark.parametrize(("side", "conv"), [(8, nn.Conv2d), (4, nn.Conv2d), (2, nn.ConvTranspose2d)])
def test_the_projector_brings_the_deepest_map_to_the_teachers_shape(side: int, conv: type[nn.Module]) -> None:
    student, teacher = (torch.zeros(2, 3, 9, 9), torch.randn(2, 5, side, side)), (torch.rand(2, 4, 4, 4),) * 2
    loss = WKDF(grid=2).connect(student, teacher)
    assert loss.projector is not None
    assert [type(layer) for layer in loss.projector] == [conv, nn.BatchNorm2d, nn.ReLU]
    assert loss.projector(student[1]).shape == teacher[1].shape
    torch.testing.assert_close(loss(student, teacher), wkd_f(loss.projector(student[1]), teacher[1], grid=2))


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"student_map has 3 channels but teacher_map has 4: .*projector"):
        wkd_f(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, 4))
    with pytest.raises(ValueError, match="grid is 4 but a map has 2 places along a side: give at most 2"):
        wkd_f(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 2), grid=4)
    with pytest.raises(ValueError, match="grid is 0"):
        WKDF(grid=0)
    with pytest.raises(ValueError, match="epsilon is 0"):
        WKDF(epsilon=0.0)
    with pytest.raises(NotFinite, match=r"teacher_map has values up to 1e\+25"):
        wkd_f(torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 1e25))
