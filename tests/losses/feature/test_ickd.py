"""ICKD against the public code's numbers and its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from stillroom.losses import ICKD, ickd
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.ickd import ickd as reference


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def golden(*, embed: bool) -> list[Golden]:
    return [case for case in cases("feat_ickd") if case.hyper["embed"] == embed]


@pytest.mark.parametrize("case", golden(embed=False), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student = case.tensor("student_feature").requires_grad_()
    loss = ickd(student, case.tensor("teacher_feature"))
    case.check("ickd", loss, gradient_of(loss, student))
    by_library = loss / len(student)  # it divides by the batch twice
    case.check("ickd_torchdistill", by_library, gradient_of(by_library, student))


@pytest.mark.parametrize("case", golden(embed=True), ids=lambda case: case.name)
def test_golden_behind_the_embedding(case: Golden) -> None:
    student, teacher = case.tensor("student_feature").requires_grad_(), case.tensor("teacher_feature")
    module = ICKD().connect([student], [teacher]).double()
    assert isinstance(module.embed, nn.Sequential)
    weight = module.embed[0].weight
    with torch.no_grad():
        weight.copy_(case.tensor("embed_weight"))
    loss = module([student], [teacher])
    case.check("ickd", loss, gradient_of(loss, student))
    case.check("ickd", loss, gradient_of(loss, weight), wrt="embed_weight")


@QUICK
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 3),
    sides=st.tuples(*[st.integers(1, 3)] * 4),
    seed=st.integers(0, 999),
)
def test_reference(batch: int, channels: int, sides: tuple[int, int, int, int], seed: int) -> None:
    student = normal(batch, channels, *sides[:2], seed=seed).requires_grad_()
    teacher = 5 * normal(batch, channels, *sides[2:], seed=seed + 1)
    ours, expected = ickd(student, teacher), reference(student, teacher)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient_of(ours, student), gradient_of(expected, student), rtol=1e-8, atol=1e-10)


def test_the_order_of_the_places_and_a_samples_scale_do_not_matter() -> None:
    teacher = normal(4, 3, 2, 5)
    moved = torch.tensor([1.0, 3.0, 0.1, 20.0]).double().reshape(4, 1, 1, 1) * teacher.flip(2, 3)
    assert ickd(moved, teacher) < 1e-28
    assert ickd(teacher.flip(1), teacher) > 1e-2


def test_dead_channels_stay_finite() -> None:
    student, teacher = normal(3, 4, 2, 2), normal(3, 4, 2, 2, seed=1)
    student[:, 1], teacher[0] = 0, 0
    student.requires_grad_()
    loss = ickd(student, teacher)
    assert loss.isfinite()
    assert gradient_of(loss, student).isfinite().all()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_magnitude(scale: float) -> None:
    student, teacher = normal(2, 3, 4, 4).float(), normal(2, 3, 2, 2, seed=1).float()
    scaled = (scale * student).requires_grad_()
    loss = ickd(scaled, teacher / scale)
    torch.testing.assert_close(loss, ickd(student, teacher), rtol=1e-4, atol=0)
    assert gradient_of(loss, scaled).isfinite().all()


def test_only_the_deepest_level_counts() -> None:
    student = [torch.rand(4, 3, 8, 8, requires_grad=True), torch.rand(4, 5, 4, 4, requires_grad=True)]
    teacher = [torch.rand(4, 3, 8, 8), torch.rand(4, 7, 4, 4)]
    loss = ICKD().connect(student, teacher)(student, teacher)
    gradients = torch.autograd.grad(loss, student, allow_unused=True)
    assert [gradient is not None for gradient in gradients] == [False, True]


def test_refused_maps() -> None:
    with pytest.raises(ValueError, match=r"student_map has 3 channels but teacher_map has 5.*module ICKD"):
        ickd(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4, 4))
    with pytest.raises(ValueError, match="teacher_map has batch size 1"):
        ickd(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4))
