"""AB against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses.connectors import match_size
from stillroom.losses.feature.ab import AB, ab
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.ab import ab as reference


@pytest.mark.parametrize("case", cases("feat_ab"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_feature").requires_grad_(), case.tensor("teacher_feature")
    loss = ab(student, teacher, margin=case.hyper["margin"])
    case.check("ab", loss, gradient_of(loss, student))


@QUICK
@given(shape=st.tuples(*[st.integers(1, 4)] * 4), margin=st.floats(0.1, 3), seed=st.integers(0, 9999))
def test_reference(shape: tuple[int, ...], margin: float, seed: int) -> None:
    student, teacher = 2 * torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)).double()
    student.requires_grad_()
    ours, expected = ab(student, teacher, margin=margin), reference(student, teacher, margin) + 0 * student.sum()
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient_of(ours, student), gradient_of(expected, student), rtol=1e-12, atol=1e-14)


def test_only_the_teachers_sign_counts() -> None:
    student, teacher = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ab(student, teacher), ab(student, 1e-6 * teacher), rtol=0, atol=0)


def test_a_response_of_exactly_zero_rests() -> None:
    zero = torch.zeros(1, 1, 1, 1)
    assert ab(zero - 1, zero) == 0
    torch.testing.assert_close(ab(zero + 1, zero), torch.tensor(3 / 1000 * 4))


def test_agreement_beyond_the_margin_costs_nothing() -> None:
    teacher = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    student = (1.5 * torch.where(teacher > 0, 1.0, -1.0)).requires_grad_()
    loss = ab(student, teacher)
    assert loss == 0
    assert gradient_of(loss, student).abs().max() == 0
    assert ab(student, teacher, margin=2.0) > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_zero_and_saturated_maps_stay_finite(dtype: torch.dtype) -> None:
    for value in (0.0, 6e4, -6e4):
        student = torch.full((2, 3, 4, 4), value, dtype=dtype).requires_grad_()
        loss = ab(student, torch.zeros(2, 3, 4, 4, dtype=dtype))
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert gradient_of(loss, student).isfinite().all()


@pytest.mark.usefixtures("unseen_values")
def test_a_nan_of_the_teachers_is_not_a_resting_neuron() -> None:
    teacher = torch.ones(1, 1, 1, 2)
    teacher[..., 0] = float("nan")
    assert ab(torch.ones(1, 1, 1, 2), teacher).isnan()


def test_deeper_levels_weigh_double() -> None:
    generator = torch.Generator().manual_seed(0)
    student = [torch.randn(2, 3, size, size, generator=generator) for size in (8, 4, 2)]
    teacher = [torch.randn(2, 5, size, size, generator=generator) for size in (4, 4, 4)]
    module = AB().connect(student, teacher)
    expected = torch.zeros(())
    for weight, connector, s, t in zip((0.25, 0.5, 1.0), module.connectors, student, teacher, strict=True):
        expected += weight * ab(match_size(connector(s), (4, 4)), t)
    torch.testing.assert_close(module(student, teacher), expected)


def test_it_is_an_initial_stage_only() -> None:
    module = AB(initial_epochs=7)
    assert (module.initial_epochs, module.final_epoch) == (7, 7)


@pytest.mark.parametrize("settings", [{"margin": 0.0}, {"margin": float("nan")}, {"initial_epochs": 0}])
def test_refused_settings(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is "):
        AB(**settings)


def test_refused_maps() -> None:
    with pytest.raises(ValueError, match="through a connector first"):
        ab(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4, 4))
    with pytest.raises(ValueError, match="margin is -1"):
        ab(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), margin=-1.0)
