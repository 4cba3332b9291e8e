"""SRD against the public code's numbers and its definition, and where we differ on purpose."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from stillroom.losses import SRD, srd
from stillroom.losses.feature.srd import srd_feature, srd_terms
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of, make
from tests.references.srd import srd as reference


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def golden(*, batchnorm: bool) -> list[Golden]:
    return [case for case in cases("feat_srd") if case.hyper["batchnorm"] == batchnorm]


@pytest.mark.parametrize("case", golden(batchnorm=False), ids=lambda case: case.name)
def test_golden_of_normalised_features(case: Golden) -> None:
    student, teacher = case.tensor("student_feature").requires_grad_(), case.tensor("teacher_feature")
    loss = srd_feature(student, teacher, power=case.hyper["exponent"], epsilon=0.0)
    case.check("feature", loss, gradient_of(loss, student))


@pytest.mark.parametrize("case", golden(batchnorm=True), ids=lambda case: case.name)
def test_golden_from_raw_maps(case: Golden) -> None:
    student, weight = case.tensor("student_feature").requires_grad_(), case.tensor("projector_weight")
    own = case.tensor("student_logits").requires_grad_()
    module = SRD(power=case.hyper["exponent"], epsilon=0.0, temperature=case.hyper["T"])
    embeddings = student.mean((2, 3)), case.tensor("teacher_feature").mean((2, 3))
    module.connect(*embeddings).double()
    assert isinstance(module.projector, nn.Linear)
    module.projector.load_state_dict({"weight": weight, "bias": case.tensor("projector_bias")})
    loss = module(*embeddings, own, case.tensor("teacher_logits"))
    case.check("total", loss, gradient_of(loss, student))
    case.check("total", loss, gradient_of(loss, own), wrt="student_logits")
    case.check("total", loss, gradient_of(loss, module.projector.weight), wrt="projector_weight")
    projected = module.projector(embeddings[0])
    terms = srd_terms(
        projected, embeddings[1], own, case.tensor("teacher_logits"), power=case.hyper["exponent"], epsilon=0.0,
        temperature=case.hyper["T"],
    )  # fmt: skip
    torch.testing.assert_close(terms.kl.detach(), case.tensor("loss_kl"), rtol=1e-9, atol=1e-11)


@QUICK
@given(
    batch=st.integers(2, 5),
    width=st.integers(1, 4),
    power=st.floats(1, 5),
    epsilon=st.sampled_from([0.0, 1e-5, 0.3]),
    seed=st.integers(0, 999),
)
def test_reference(batch: int, width: int, power: float, epsilon: float, seed: int) -> None:
    student, teacher = normal(batch, width, seed=seed).requires_grad_(), 7 + 3 * normal(batch, width, seed=seed + 1)
    data, settings = make(batch, 6, seed=seed), {"power": power, "epsilon": epsilon, "temperature": 2.0}
    ours = srd(student, teacher, data.student, data.teacher, kl=0.7, **settings)
    expected = reference(student, teacher, data.student, data.teacher, kl_weight=0.7, **settings)
    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(gradient_of(ours, student), gradient_of(expected, student), rtol=1e-6, atol=1e-8)


def test_equal_embeddings_have_a_least_value_and_no_gradient() -> None:
    same = normal(6, 4).requires_grad_()
    loss = srd_feature(same, same.detach())
    assert loss.item() == pytest.approx(2 * math.log(1e-5))
    assert not gradient_of(loss, same).any()
    # Minus infinity and a NaN gradient in public code.
    published = srd_feature(same, same.detach(), epsilon=0.0)
    assert published.isfinite()
    assert not gradient_of(published, same).any()


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_without_epsilon_a_factor_of_all_differences_is_a_constant(scale: float) -> None:
    student, teacher = normal(6, 4).float(), normal(6, 4, seed=1).float()
    loss = srd_feature(scale * student, scale * teacher, epsilon=0.0)
    expected = srd_feature(student, teacher, epsilon=0.0) + 8 * math.log(scale)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)


def test_scale_and_shift_of_a_unit_do_not_matter() -> None:
    student, teacher, data = 100 * normal(6, 4), 100 * normal(6, 4, seed=1), make(6, 5, seed=1)
    plain = srd(student, teacher, data.student, data.teacher)
    moved = srd(3 * student + 50, torch.tensor([2.0, 5.0, 1.0, 9.0]) * teacher - 70, data.student, data.teacher)
    torch.testing.assert_close(moved, plain, rtol=1e-6, atol=1e-6)


def test_a_constant_unit_is_zero() -> None:
    student, teacher, data = normal(6, 4), normal(6, 4, seed=1), make(6, 5, seed=2)
    student[:, 1], teacher[:, 1] = 1e6 + 1 / 3, -1e6 / 7
    without = [torch.cat((x[:, :1], x[:, 2:]), 1) for x in (student, teacher)]
    wide, narrow = (srd(*pair, data.student, data.teacher) for pair in ((student, teacher), without))
    torch.testing.assert_close(wide, narrow)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    student, teacher = (100 * normal(6, 5)).to(dtype).requires_grad_(), normal(6, 5, seed=1).to(dtype)
    data = make(6, 4, seed=3)
    loss = srd(student, teacher, data.student.to(dtype), data.teacher.to(dtype))
    exact = srd(
        student.detach().double(), teacher.double(), data.student.to(dtype).double(), data.teacher.to(dtype).double()
    )
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)
    assert gradient_of(loss, student).dtype == dtype


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"power": 0.5}, "power is 0.5: it must be finite and at least 1"),
        ({"epsilon": -1e-5}, "epsilon is -1e-05: it must be finite and at least 0"),
        ({"kl": math.inf}, "kl is inf"),
        ({"temperature": 0.0}, "temperature is 0.0"),
    ],
)
def test_refused_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SRD(**settings)


def test_refused_inputs() -> None:
    logits = torch.zeros(1, 3), torch.zeros(1, 3)
    with pytest.raises(ValueError, match="batch size 1: SRD normalises over the batch"):
        srd(normal(1, 4), normal(1, 4), *logits)
    with pytest.raises(ValueError, match="project the student"):
        srd_feature(normal(2, 4), normal(2, 5))
