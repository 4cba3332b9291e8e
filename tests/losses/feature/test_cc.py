"""CC against the public code's numbers and against its definition."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses.feature.cc import CC, cc
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.cc import cc as reference


def embeddings(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", cases("feat_cc"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_feature").requires_grad_(), case.tensor("teacher_feature")
    loss = cc(student, teacher)
    case.check("cc", loss, gradient_of(loss, student))


@QUICK
@given(batch=st.integers(2, 5), width=st.integers(1, 5), seed=st.integers(0, 999))
def test_reference(batch: int, width: int, seed: int) -> None:
    student = embeddings(batch, width, seed=seed).requires_grad_()
    teacher = 5 * embeddings(batch, width, seed=seed + 1)
    ours, theirs = cc(student, teacher), reference(student, teacher)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient_of(3 * ours, student), 3 * gradient_of(theirs, student), rtol=1e-12, atol=1e-12)


def test_one_sample_has_no_successor() -> None:
    student = embeddings(1, 5).requires_grad_()
    loss = cc(student, embeddings(1, 5, seed=1))
    assert loss == 0
    assert gradient_of(loss, student).abs().max() == 0


def test_agreement_costs_nothing_and_pulls_nowhere() -> None:
    student = embeddings(4, 5).requires_grad_()
    loss = cc(student, embeddings(4, 5))
    assert loss == 0
    assert gradient_of(loss, student).abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    student = (200 * embeddings(6, 50)).to(dtype).requires_grad_()
    teacher = (1000 * embeddings(6, 50, seed=1)).to(dtype)
    loss = cc(student, teacher)  # about 4e7: float16 ends at 65504
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), cc(student.detach().double(), teacher.double()), rtol=1e-5, atol=0)
    assert gradient_of(loss, student).dtype == dtype


@pytest.mark.usefixtures("unseen_values")
def test_a_nan_is_not_hidden_and_the_teacher_is_left_alone() -> None:
    student, teacher = embeddings(3, 4).requires_grad_(), embeddings(3, 4, seed=1).requires_grad_()
    cc(student, teacher).backward()
    assert teacher.grad is None
    for broken in (student, teacher):
        spoilt = broken.detach().clone()
        spoilt[1, 2] = torch.nan
        assert cc(*((spoilt, teacher) if broken is student else (student, spoilt))).isnan()


def test_the_module_embeds_both_and_trains_both_layers() -> None:
    student, teacher = embeddings(4, 3).float().requires_grad_(), embeddings(4, 6, seed=1).float().requires_grad_()
    loss = CC(dim=5).connect(student, teacher)
    embedded = [layer(x).double() for layer, x in ((loss.student_embed, student), (loss.teacher_embed, teacher))]
    value = loss(student, teacher)
    torch.testing.assert_close(value.double(), reference(*embedded, detach=False), rtol=1e-5, atol=0)
    value.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in loss.parameters())
    assert student.grad.abs().max() > 0
    assert teacher.grad is None


def test_a_few_steps_lower_the_loss() -> None:
    torch.manual_seed(0)
    student, teacher = embeddings(16, 8).float().requires_grad_(), embeddings(16, 12, seed=1).float()
    loss = CC(dim=10).connect(student, teacher)
    optimizer = torch.optim.SGD([student, *loss.parameters()], lr=0.01)
    values = []
    for _ in range(20):
        values.append(loss(student, teacher))
        optimizer.zero_grad()
        values[-1].backward()
        optimizer.step()
    assert values[-1] < 0.5 * values[0]


def test_before_connect() -> None:
    loss = pickle.loads(pickle.dumps(copy.deepcopy(CC(dim=7))))
    assert (loss.dim, list(loss.parameters())) == (7, [])
    with pytest.raises(RuntimeError, match=r"call connect\(student_embedding, teacher_embedding\)"):
        loss(embeddings(2, 3), embeddings(2, 3))


def test_connect_replaces_and_the_state_loads() -> None:
    loss = CC(dim=5).connect(embeddings(2, 9), embeddings(2, 9)).connect(embeddings(2, 3), embeddings(2, 4))
    assert [tuple(parameter.shape) for parameter in loss.parameters()] == [(5, 3), (5,), (5, 4), (5,)]
    assert all(parameter.dtype == torch.float32 for parameter in loss.parameters())
    twin = CC(dim=5).connect(embeddings(2, 3), embeddings(2, 4))
    twin.load_state_dict(loss.state_dict())
    pair = embeddings(4, 3), embeddings(4, 4, seed=1)
    assert twin(*pair) == loss(*pair)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_dtype_meets_the_layers(dtype: torch.dtype) -> None:
    student, teacher = embeddings(4, 3).to(dtype).requires_grad_(), embeddings(4, 6, seed=1).to(dtype)
    loss = CC(dim=5).connect(student, teacher)
    value = loss(student, teacher)
    assert value.dtype == torch.float32
    assert gradient_of(value, student).dtype == dtype
    assert loss(student[:1], teacher[:1]) == 0


def test_autocast_and_compile() -> None:
    student, teacher = embeddings(4, 3).float().requires_grad_(), embeddings(4, 6, seed=1).float()
    loss = CC(dim=5).connect(student, teacher)
    plain = loss(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        cast = loss(student, teacher)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, plain, rtol=0.05, atol=0)  # the linear layers run in bfloat16
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(student, teacher)
    torch.testing.assert_close(torch.autograd.grad(compiled, student)[0], gradient_of(plain, student))


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"student_embedding has shape \(3, 2\) but teacher_embedding has \(3, 4\)"):
        cc(embeddings(3, 2), embeddings(3, 4))
    with pytest.raises(ValueError, match="teacher_embedding has batch size 4"):
        cc(embeddings(3, 2), embeddings(4, 2))
    with pytest.raises(ValueError, match="dim is 0"):
        CC(dim=0)
