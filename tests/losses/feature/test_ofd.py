"""OFD against the public code's numbers and against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses.connectors import match_size
from stillroom.losses.feature.ofd import OFD, margin_of, ofd
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.ofd import margin_of as reference_margin
from tests.references.ofd import ofd as reference


@pytest.mark.parametrize("case", cases("feat_ofd"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_feature").requires_grad_(), case.tensor("teacher_feature")
    loss = ofd(student, teacher, case.tensor("margin"))
    case.check("ofd", loss, gradient_of(loss, student))


@QUICK
@given(shape=st.tuples(*[st.integers(1, 4)] * 4), seed=st.integers(0, 9999))
def test_reference(shape: tuple[int, ...], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, *shape, generator=generator).double()
    margin = -torch.rand(shape[1], generator=generator).double()
    student.requires_grad_()
    ours, expected = ofd(student, teacher, margin), reference(student, teacher, margin.tolist()) + 0 * student.sum()
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient_of(ours, student), gradient_of(expected, student), rtol=1e-12, atol=1e-14)


@QUICK
@given(shape=st.tuples(*[st.integers(1, 4)] * 4), seed=st.integers(0, 9999), shift=st.sampled_from([-3.0, 0.0, 3.0]))
def test_margins_by_their_definition(shape: tuple[int, ...], seed: int, shift: float) -> None:
    teacher = shift + torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()
    margin = margin_of(teacher)
    assert margin.shape == (1, shape[1], 1, 1)
    expected = torch.tensor(reference_margin(teacher), dtype=torch.float64)
    torch.testing.assert_close(margin.flatten(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (0.5, 0.3), (-1.0, 2.0)])
def test_margins_are_the_ones_that_batch_normalisation_implies(mean: float, spread: float) -> None:
    responses = torch.randn(64, 1, 40, 40, generator=torch.Generator().manual_seed(0)).double()
    ratio = torch.tensor(-mean / spread)
    density = math.exp(-(float(ratio) ** 2) / 2) / math.sqrt(2 * math.pi)
    published = mean - spread * density / float(torch.special.ndtr(ratio))
    assert float(margin_of(mean + spread * responses)) == pytest.approx(published, rel=0.02)


def test_a_channel_without_negative_responses_has_a_margin_too() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.stack([2 + torch.rand(2, 4, 4, generator=generator), torch.zeros(2, 4, 4)], 1)
    margin = margin_of(teacher)
    torch.testing.assert_close(margin[0, 0, 0, 0], -3 * teacher[:, 0].std(correction=0))
    assert margin[0, 1, 0, 0] == 0
    student = torch.ones(2, 2, 4, 4, requires_grad=True)
    assert gradient_of(ofd(student, teacher, margin), student).isfinite().all()


def test_a_neuron_that_should_rest_may_rest_deeply() -> None:
    teacher = torch.tensor([3.0, -0.5, -4.0]).reshape(1, 1, 1, 3)
    margin = torch.tensor([-1.0])
    for rest in ([3.0, -0.5, -1.0], [3.0, -9.0, -9.0]):
        student = torch.tensor(rest).reshape(1, 1, 1, 3).requires_grad_()
        loss = ofd(student, teacher, margin)
        assert loss == 0
        assert gradient_of(loss, student).abs().max() == 0
    assert ofd(torch.tensor([3.0, -0.5, -0.9]).reshape(1, 1, 1, 3), teacher, margin) > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_zero_and_large_maps_stay_finite(dtype: torch.dtype) -> None:
    for value in (0.0, 6e4, -6e4):
        student = torch.full((2, 3, 4, 4), value, dtype=dtype).requires_grad_()
        loss = ofd(student, torch.zeros(2, 3, 4, 4, dtype=dtype), torch.zeros(1, 3, 1, 1))
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert gradient_of(loss, student).isfinite().all()


def test_levels_weights_and_sizes() -> None:
    generator = torch.Generator().manual_seed(0)
    student = [torch.randn(2, 3, size, size, generator=generator) for size in (8, 4, 2)]
    teacher = [torch.randn(2, 5, size, size, generator=generator) for size in (4, 4, 4)]
    module = OFD().connect(student, teacher)
    expected = torch.zeros(())
    for weight, connector, s, t in zip((0.25, 0.5, 1.0), module.connectors, student, teacher, strict=True):
        resized = match_size(t, (s.shape[2], s.shape[3]))
        expected += weight * ofd(connector.layers(s), resized, margin_of(resized))
    torch.testing.assert_close(module(student, teacher), expected)


def test_margins_are_kept_with_the_module_and_not_trained() -> None:
    maps = [torch.randn(2, 3, 4, 4)], [torch.randn(2, 5, 4, 4)]
    module = OFD().connect(*maps)
    assert "connectors.0.margin" in module.state_dict()
    assert not any("margin" in name for name, _ in module.named_parameters())
    before = module.connectors[0].margin.clone()
    module(maps[0], [maps[1][0] - 5])
    torch.testing.assert_close(module.connectors[0].margin, before, rtol=0, atol=0)


def test_refused_margins_and_maps() -> None:
    maps = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"margin has shape \(4,\) but the maps have 3 channels"):
        ofd(maps, maps, torch.zeros(4))
    with pytest.raises(ValueError, match="through a connector first"):
        ofd(maps, torch.zeros(2, 5, 4, 4), torch.zeros(3))
