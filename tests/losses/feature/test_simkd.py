"""SimKD's loss against its definition; its student is tested with the models."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses.feature.simkd import SimKD, simkd
from stillroom.losses.protocol import connect_needs_of, needs_of
from tests.losses.draw import QUICK, gradient_of
from tests.references.simkd import simkd as reference


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@QUICK
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 3),
    sides=st.tuples(*[st.sampled_from([1, 2, 4])] * 4),
    seed=st.integers(0, 999),
)
def test_reference(batch: int, channels: int, sides: tuple[int, int, int, int], seed: int) -> None:
    student = normal(batch, channels, *sides[:2], seed=seed).requires_grad_()
    teacher = normal(batch, channels, *sides[2:], seed=seed + 1)
    ours, theirs = simkd(student, teacher), reference(student, teacher)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient_of(ours, student), gradient_of(theirs, student), rtol=1e-9, atol=1e-12)


def test_agreement_costs_nothing() -> None:
    teacher = normal(2, 3, 4, 4)
    student = teacher.clone().requires_grad_()
    assert simkd(student, teacher) == 0
    assert (gradient_of(simkd(student, teacher), student) == 0).all()
    assert simkd(student, teacher + 2) == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_squares_in_float32(dtype: torch.dtype) -> None:
    student = torch.full((2, 3, 4, 4), 300.0, dtype=dtype).requires_grad_()
    loss = simkd(student, torch.zeros(2, 3, 4, 4, dtype=dtype))
    assert loss.dtype == torch.float32
    assert loss == 90000
    gradient = gradient_of(loss, student)
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()


@pytest.mark.usefixtures("unseen_values")
def test_the_teacher_gets_no_gradient_and_nan_comes_through() -> None:
    student, teacher = normal(1, 2, 2, 2).requires_grad_(), normal(1, 2, 4, 4).requires_grad_()
    simkd(student, teacher).backward()
    assert teacher.grad is None
    assert simkd(student * torch.nan, teacher).isnan()


def test_module() -> None:
    student, teacher = normal(2, 3, 4, 4), normal(2, 3, 7, 7, seed=1)
    assert SimKD()(student, teacher) == simkd(student, teacher)
    run = torch.compile(SimKD(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(run(student, teacher), simkd(student, teacher))
    loss = SimKD(factor=4)
    assert str(copy.deepcopy(loss)) == str(pickle.loads(pickle.dumps(loss))) == "SimKD(factor=4)"
    assert needs_of(loss) == ("student_final_map", "teacher_final_map")
    assert connect_needs_of(loss) == ()


def test_refused_inputs() -> None:
    with pytest.raises(ValueError, match="factor is 0"):
        SimKD(factor=0)
    with pytest.raises(ValueError, match=r"student_map has 3 channels but teacher_map has 5.*ReusedHead"):
        simkd(torch.zeros(2, 3, 4, 4), torch.zeros(2, 5, 4, 4))
    with pytest.raises(ValueError, match="teacher_map has batch size 1"):
        simkd(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="it is empty"):
        simkd(torch.zeros(0, 3, 4, 4), torch.zeros(0, 3, 4, 4))
