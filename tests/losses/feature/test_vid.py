"""VID against the public code's numbers and against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses.feature.vid import VID, vid
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.vid import vid as reference


@pytest.mark.parametrize("case", cases("feat_vid"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_feature").requires_grad_(), case.tensor("teacher_feature")
    module = VID(init_variance=case.hyper["init_pred_var"]).connect([student.detach()], [teacher]).double()
    (predictor,) = module.predictors
    stored = {f"mean.{2 * i}.weight": case.tensor(f"w{i + 1}") for i in range(3)}
    predictor.load_state_dict({"log_scale": case.tensor("log_scale"), **stored})
    loss = module([student], [teacher])
    case.check("vid", loss, gradient_of(loss, student))


@QUICK
@given(shape=st.tuples(*[st.integers(1, 4)] * 4), seed=st.integers(0, 9999), epsilon=st.floats(1e-6, 1.0))
def test_reference(shape: tuple[int, ...], seed: int, epsilon: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    predicted, teacher = torch.randn(2, *shape, generator=generator).double()
    log_scale = 3 * torch.randn(shape[1], generator=generator).double().requires_grad_()
    predicted.requires_grad_()
    ours, expected = (
        vid(predicted, log_scale, teacher, epsilon=epsilon),
        reference(predicted, log_scale, teacher, epsilon),
    )
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
    for leaf in (predicted, log_scale):
        torch.testing.assert_close(gradient_of(ours, leaf), gradient_of(expected, leaf), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variance", [0.01, 1.0, 5.0, 1000.0])
def test_training_starts_from_the_variance_asked_for(variance: float) -> None:
    maps = [torch.rand(2, 3, 4, 4)], [torch.rand(2, 5, 4, 4)]
    (predictor,) = VID(init_variance=variance).connect(*maps).predictors
    exact = torch.full((1, 5, 1, 1), 7.0)
    expected = torch.tensor(0.5 * math.log(variance))
    torch.testing.assert_close(vid(exact, predictor.log_scale, exact), expected, rtol=1e-4, atol=1e-5)


def test_the_best_variance_is_the_mean_squared_error() -> None:
    predicted, teacher = torch.randn(2, 8, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    error = (predicted - teacher).square().mean((0, 2, 3))
    log_scale = (error - 1e-5).expm1().log().requires_grad_()
    assert gradient_of(vid(predicted, log_scale, teacher), log_scale).abs().max() < 1e-12


def test_each_level_has_its_own_predictor_in_the_teachers_channels() -> None:
    student = [torch.rand(2, 3, 8, 8), torch.rand(2, 4, 2, 6)]
    teacher = [torch.rand(2, 5, 4, 4), torch.rand(2, 6, 4, 4)]
    module = VID().connect(student, teacher)
    shapes = [[tuple(p.shape[:2]) for p in predictor.mean.parameters()] for predictor in module.predictors]
    assert shapes == [[(5, 3), (5, 5), (5, 5)], [(6, 4), (6, 6), (6, 6)]]
    first, second = (predictor(*pair) for predictor, *pair in zip(module.predictors, student, teacher, strict=True))
    torch.testing.assert_close(module(student, teacher), first + second)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [-200.0, 0.0, 200.0])
def test_vanished_and_huge_variances_stay_finite(dtype: torch.dtype, scale: float) -> None:
    predicted = torch.zeros(1, 1, 2, 2, dtype=dtype).requires_grad_()
    log_scale = torch.full((1,), scale).requires_grad_()
    loss = vid(predicted, log_scale, torch.ones(1, 1, 2, 2, dtype=dtype))
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert gradient_of(loss, predicted).isfinite().all()
    assert gradient_of(loss, log_scale).isfinite().all()


@pytest.mark.parametrize("variance", [0.0, -1.0, float("nan"), float("inf")])
def test_refused_variances(variance: float) -> None:
    with pytest.raises(ValueError, match=f"init_variance is {variance}"):
        VID(init_variance=variance)


def test_refused_scales() -> None:
    maps = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"log_scale has shape \(4,\)"):
        vid(maps, torch.zeros(4), maps)
    with pytest.raises(ValueError, match=r"epsilon is 0"):
        vid(maps, torch.zeros(3), maps, epsilon=0.0)
    with pytest.raises(ValueError, match="in the teacher's shape"):
        vid(maps, torch.zeros(3), torch.zeros(2, 3, 2, 2))
