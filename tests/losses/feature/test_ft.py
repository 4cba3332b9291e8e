"""FT against the public code's numbers and against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses.connectors import match_size
from stillroom.losses.feature.ft import FT, ft
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.ft import ft as reference


@pytest.mark.parametrize("case", cases("feat_ft"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_feature").requires_grad_(), case.tensor("teacher_feature")
    loss = ft(student, teacher, power=case.hyper["p1"], norm=case.hyper["p2"])
    case.check("ft", loss, gradient_of(loss, student))


@QUICK
@given(
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    size=st.tuples(st.integers(1, 4), st.integers(2, 4)),
    power=st.sampled_from([2, 3, 4]),
    norm=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 9999),
)
def test_reference(
    batch: int, channels: tuple[int, int], size: tuple[int, int], power: int, norm: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Away from zero, where an odd power's mean could vanish and the length with it.
    student, teacher = (0.1 + torch.rand(batch, c, *size, generator=generator).double() for c in channels)
    student.requires_grad_()
    ours, expected = ft(student, teacher, power=power, norm=norm), reference(student, teacher, power, norm)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient_of(ours, student), gradient_of(expected, student), rtol=1e-8, atol=1e-12)


def test_scale_and_number_of_channels_do_not_matter() -> None:
    factor = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    assert ft(factor.repeat(1, 3, 1, 1), -5 * factor) < 1e-15
    other = torch.randn(3, 5, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    for scale in (1e-150, 1e-3, 1e150):
        torch.testing.assert_close(ft(scale * factor, other), ft(factor, other), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3e4])
def test_zero_equal_and_large_factors_stay_finite(dtype: torch.dtype, scale: float) -> None:
    teacher = (scale * torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))).to(dtype)
    for student in (teacher.clone(), torch.zeros_like(teacher), -teacher):
        student.requires_grad_()
        for norm in (1, 2):
            loss = ft(student, teacher, norm=norm)
            assert loss.dtype == torch.float32
            assert loss.isfinite()
            assert gradient_of(loss, student).isfinite().all()
    assert ft(teacher, teacher) == 0


def test_the_larger_factor_is_pooled() -> None:
    generator = torch.Generator().manual_seed(0)
    small, large = torch.rand(2, 3, 2, 6, generator=generator), torch.rand(2, 3, 4, 3, generator=generator)
    pooled = match_size(small, (2, 3)), match_size(large, (2, 3))
    torch.testing.assert_close(ft(small, large), ft(*pooled))
    torch.testing.assert_close(ft(large, small), ft(*pooled[::-1]))


def maps() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return (
        [torch.rand(4, 6, 8, 8, generator=generator), torch.rand(4, 8, 4, 4, generator=generator)],
        [torch.rand(4, 7, 8, 8, generator=generator), torch.rand(4, 12, 4, 4, generator=generator)],
    )


def trained_by(loss: torch.Tensor, module: FT) -> set[str]:
    module.zero_grad()
    loss.backward()
    return {name.split(".")[0] for name, p in module.named_parameters() if p.grad is not None}


def test_first_the_paraphraser_learns_then_the_translator() -> None:
    student, teacher = maps()
    student = [feature.requires_grad_() for feature in student]
    module = FT(initial_epochs=3).connect(student, teacher)
    for epoch in (1, 3):
        assert trained_by(module(student, teacher, epoch=epoch), module) == {"paraphraser"}
        assert student[-1].grad is None
    assert trained_by(module(student, teacher, epoch=4), module) == {"translator"}
    assert student[-1].grad is not None
    assert student[0].grad is None


def test_without_a_stage_the_factor_is_a_random_projection() -> None:
    module = FT(initial_epochs=0).connect(*maps())
    assert trained_by(module(*maps()), module) == {"translator"}


def test_the_reconstruction_is_the_mean_squared_error_of_the_last_map() -> None:
    student, teacher = maps()
    module = FT().connect(student, teacher)
    assert module.paraphraser is not None
    rebuilt = module.paraphraser(teacher[-1])
    assert rebuilt.shape == teacher[-1].shape
    torch.testing.assert_close(module(student, teacher), (rebuilt - teacher[-1]).square().mean())


@pytest.mark.parametrize(("rate", "channels"), [(0.5, 6), (0.75, 9), (2.0, 24), (0.001, 1)])
def test_the_rate_sets_the_factors_channels(rate: float, channels: int) -> None:
    student, teacher = maps()
    module = FT(rate=rate).connect(student, teacher)
    assert module.paraphraser is not None
    assert module.translator is not None
    assert module.paraphraser.encoder(teacher[-1]).shape == (4, channels, 4, 4)
    assert module.translator(student[-1]).shape == (4, channels, 4, 4)


@pytest.mark.parametrize(
    "settings",
    [
        {"rate": 0.0},
        {"initial_epochs": -1},
        {"initial_epochs": 1.5},
        {"power": 0},
        {"norm": 0},
    ],
)
def test_refused_settings(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is "):
        FT(**settings)


def test_refused_factors() -> None:
    with pytest.raises(ValueError, match="power is 0"):
        ft(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), power=0)
    with pytest.raises(ValueError, match="batch size 2 but student_factor has 1"):
        ft(torch.ones(1, 1, 2, 2), torch.ones(2, 1, 2, 2))
