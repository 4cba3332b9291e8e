"""FitNet against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stillroom.losses.feature.fitnet import FitNet, fitnet
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.fitnet import fitnet as reference


@pytest.mark.parametrize("case", cases("feat_hint"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_feature").requires_grad_(), case.tensor("teacher_feature")
    loss = fitnet(student, teacher)
    case.check("hint", loss, gradient_of(loss, student))


@QUICK
@given(shape=st.tuples(*[st.integers(1, 4)] * 4), seed=st.integers(0, 9999))
def test_reference(shape: tuple[int, ...], seed: int) -> None:
    student, teacher = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)).double()
    student.requires_grad_()
    ours, expected = fitnet(student, teacher), reference(student, teacher)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient_of(ours, student), gradient_of(expected, student), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    student = torch.tensor([300.0, -300.0], dtype=dtype).reshape(1, 2, 1, 1).requires_grad_()
    loss = fitnet(student, -student.detach())
    assert loss == 360_000  # beyond float16
    assert loss.dtype == torch.float32
    assert gradient_of(loss, student).dtype == dtype


def test_equal_maps_cost_nothing_and_pull_nowhere() -> None:
    same = torch.randn(2, 3, 4, 4).requires_grad_()
    loss = fitnet(same, same)
    assert loss == 0
    assert gradient_of(loss, same).abs().max() == 0


@pytest.mark.parametrize(
    ("student_size", "teacher_size", "conv"),
    [
        ((8, 8), (4, 4), nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False)),
        ((4, 4), (8, 8), nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1, bias=False)),
        ((4, 4), (4, 4), nn.Conv2d(3, 5, 1, bias=False)),
        ((7, 5), (3, 6), nn.Conv2d(3, 5, 1, bias=False)),
        ((8, 4), (4, 4), nn.Conv2d(3, 5, 1, bias=False)),
        ((16, 16), (1, 1), nn.Conv2d(3, 5, 1, bias=False)),
    ],
)
def test_the_regressor_fits_the_sizes(
    student_size: tuple[int, int], teacher_size: tuple[int, int], conv: nn.Module
) -> None:
    maps = [torch.rand(2, 3, *student_size)], [torch.rand(2, 5, *teacher_size)]
    loss = FitNet(layer=1).connect(*maps)
    assert loss.regressor is not None
    built = loss.regressor[0]
    assert repr(built) == repr(conv)
    assert loss(*maps).isfinite()


def test_only_the_chosen_level_counts() -> None:
    student = [torch.rand(2, 3, 4, 4, requires_grad=True) for _ in range(3)]
    teacher = [torch.rand(2, 3, 4, 4) for _ in range(3)]
    for layer, chosen in ((1, 0), (2, 1), (3, 2), (-1, 2), (-3, 0)):
        loss = FitNet(layer=layer).connect(student, teacher)(student, teacher)
        gradients = torch.autograd.grad(loss, student, allow_unused=True)
        assert [gradient is not None for gradient in gradients] == [level == chosen for level in range(3)]


def test_the_regressor_can_reach_negative_responses() -> None:
    student, positive = [torch.rand(2, 3, 4, 4)], [torch.rand(2, 3, 4, 4)]
    ends = [FitNet(layer=1).connect(student, teacher).regressor[-1] for teacher in (positive, [-positive[0]])]
    assert [type(end) for end in ends] == [nn.ReLU, nn.BatchNorm2d]


@pytest.mark.parametrize("layer", [0, 1.5, True])
def test_refused_layers(layer: int) -> None:
    with pytest.raises(ValueError, match=f"layer is {layer}: count levels"):
        FitNet(layer=layer)


@pytest.mark.parametrize("layer", [3, -3])
def test_a_level_that_is_not_there(layer: int) -> None:
    maps = [torch.rand(2, 3, 4, 4)] * 2
    with pytest.raises(ValueError, match=f"layer is {layer} but the networks have 2 levels: choose 1 to 2"):
        FitNet(layer=layer).connect(maps, maps)


def test_refused_maps() -> None:
    with pytest.raises(ValueError, match="through a regressor first"):
        fitnet(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4, 4))
    with pytest.raises(ValueError, match=r"student_map has shape \(2, 3\)"):
        fitnet(torch.zeros(2, 3), torch.zeros(2, 3))
