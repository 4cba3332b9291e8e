"""ITRD against the public code's numbers and against its definition."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from stillroom.losses.feature.itrd import ITRD, itrd, itrd_correlation, itrd_mutual, itrd_terms
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references import itrd as reference


def embeddings(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", cases("feat_itrd"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_feature").requires_grad_(), case.tensor("teacher_feature")
    embedded = functional.linear(student, case.tensor("embed_weight"), case.tensor("embed_bias"))
    terms = itrd_terms(embedded, teacher, alpha=case.hyper["alpha_it"])
    case.check("itrd_correlation", terms.correlation, gradient_of(terms.correlation, student))
    case.check("itrd_mutual", terms.mutual, gradient_of(terms.mutual, student))


@QUICK
@given(
    batch=st.integers(2, 5), widths=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    alpha=st.floats(0.3, 3), seed=st.integers(0, 999),
)  # fmt: skip
def test_reference(batch: int, widths: tuple[int, int], alpha: float, seed: int) -> None:
    student = (embeddings(batch, widths[0], seed=seed) + 1).requires_grad_()
    same, other = 5 * embeddings(batch, widths[0], seed=seed + 1), embeddings(batch, widths[1], seed=seed + 2)
    pairs = (
        (itrd_correlation(student, same, alpha=alpha), reference.correlation(student, same, alpha)),
        (itrd_mutual(student, other), reference.mutual(student, other)),
    )
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(
            gradient_of(3 * ours, student), 3 * gradient_of(theirs, student), rtol=1e-7, atol=1e-8
        )


def test_the_total_is_the_weighted_sum() -> None:
    student, teacher = embeddings(5, 4), embeddings(5, 4, seed=1)
    terms = itrd_terms(student, teacher, alpha=1.5)
    total = itrd(student, teacher, alpha=1.5, correlation=3.0, mutual=0.5)
    torch.testing.assert_close(total, 3 * terms.correlation + 0.5 * terms.mutual)


def test_scale_and_shift_of_a_unit_do_not_matter_and_agreement_is_best() -> None:
    teacher = embeddings(6, 5)
    scales = torch.tensor([3.0, 0.1, 20, 1, 400]).double()
    student = (scales * teacher + 7).requires_grad_()
    loss = itrd_correlation(student, teacher, alpha=1.5)
    assert loss.item() == pytest.approx(math.log2(5) - 3 * math.log2(6), abs=1e-9)
    assert gradient_of(loss, student).abs().max() < 1e-9
    assert itrd_correlation(-student, teacher) > itrd_correlation(embeddings(6, 5, seed=1), teacher) > loss


def test_the_mutual_part_charges_pairs_that_only_the_student_finds_alike() -> None:
    assert itrd_mutual(torch.ones(2, 3), torch.eye(2)) == 0.5
    assert itrd_mutual(torch.eye(2), torch.ones(2, 3)).abs() < 1e-7
    assert itrd_mutual(torch.ones(1, 3), torch.ones(1, 2)).abs() < 1e-7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dead_units_and_samples_stay_finite(dtype: torch.dtype) -> None:
    student, teacher = embeddings(5, 4).to(dtype), embeddings(5, 4, seed=1).to(dtype)
    student[:, 1], teacher[:, 2] = 0.1, 0
    student[3], teacher[3] = 0.1, 0
    for s, t in ((student, teacher), (torch.zeros_like(student), teacher), (student, torch.zeros_like(teacher))):
        leaf = s.clone().requires_grad_()
        terms = itrd_terms(leaf, t)
        for term in terms:
            assert term.dtype == torch.float32
            assert term.isfinite()
            assert gradient_of(term, leaf).isfinite().all()


def test_a_constant_unit_correlates_with_nothing() -> None:
    student = embeddings(7, 3).float()
    student[:, 0] = 0.1  # its mean is not exactly 0.1
    student = student.requires_grad_()
    teacher = embeddings(7, 3, seed=1).float()
    loss = itrd_correlation(student, teacher, alpha=1.0)
    others = 2 ** itrd_correlation(student[:, 1:], teacher[:, 1:], alpha=1.0)
    torch.testing.assert_close(2**loss, 1 + others)
    assert gradient_of(loss, student)[:, 0].abs().max() == 0


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_magnitude(scale: float) -> None:
    student, teacher = embeddings(5, 4).float(), embeddings(5, 4, seed=1).float()
    scaled = (scale * student).requires_grad_()
    loss = itrd(scaled, teacher / scale)
    torch.testing.assert_close(loss, itrd(student, teacher), rtol=1e-4, atol=1e-5)
    assert gradient_of(loss, scaled).isfinite().all()


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = (100 * embeddings(6, 50)).half().requires_grad_(), (1000 * embeddings(6, 50, seed=1)).half()
    loss = itrd(student, teacher)
    torch.testing.assert_close(loss.double(), itrd(student.detach().double(), teacher.double()), rtol=1e-5, atol=0)
    assert gradient_of(loss, student).dtype == torch.float16


@pytest.mark.usefixtures("unseen_values")
def test_a_nan_is_not_hidden_and_the_teacher_is_left_alone() -> None:
    student, teacher = embeddings(3, 4).requires_grad_(), embeddings(3, 4, seed=1).requires_grad_()
    itrd(student, teacher).backward()
    assert teacher.grad is None
    for broken in (student, teacher):
        spoilt = broken.detach().clone()
        spoilt[1, 2] = torch.nan
        terms = itrd_terms(*((spoilt, teacher) if broken is student else (student, spoilt)))
        assert terms.correlation.isnan()
        assert terms.mutual.isnan()


@pytest.mark.parametrize(("width", "mutual_of"), [(4, "raw"), (6, "embedded")])
def test_the_module_embeds_for_the_mutual_part_only_where_widths_differ(width: int, mutual_of: str) -> None:
    student, teacher = embeddings(5, width).float().requires_grad_(), embeddings(5, 4, seed=1).float()
    loss = ITRD(alpha=1.2, correlation=3.0, mutual=5.0).connect(student, teacher)
    assert loss.embed is not None
    embedded = loss.embed(student)
    mutual = itrd_mutual(student if mutual_of == "raw" else embedded, teacher)
    expected = 3 * itrd_correlation(embedded, teacher, alpha=1.2) + 5 * mutual
    torch.testing.assert_close(loss(student, teacher), expected)


def test_a_few_steps_lower_the_loss() -> None:
    torch.manual_seed(0)
    student, teacher = embeddings(16, 8).float().requires_grad_(), embeddings(16, 12, seed=1).float()
    loss = ITRD().connect(student, teacher)
    before = [parameter.clone() for parameter in loss.parameters()]
    optimizer = torch.optim.SGD([student, *loss.parameters()], lr=0.05)
    values = []
    for _ in range(30):
        values.append(loss(student, teacher))
        optimizer.zero_grad()
        values[-1].backward()
        optimizer.step()
    assert values[-1] < values[0] - 0.5
    assert not torch.equal(before[0], next(loss.parameters()))


def test_before_connect() -> None:
    loss = pickle.loads(pickle.dumps(copy.deepcopy(ITRD(mutual=0.5))))
    assert (loss.mutual, list(loss.parameters())) == (0.5, [])
    with pytest.raises(RuntimeError, match=r"call connect\(student_embedding, teacher_embedding\)"):
        loss(embeddings(2, 3), embeddings(2, 3))


def test_connect_replaces_and_the_state_loads() -> None:
    loss = ITRD().connect(embeddings(2, 9), embeddings(2, 9)).connect(embeddings(2, 3), embeddings(2, 4))
    assert [tuple(parameter.shape) for parameter in loss.parameters()] == [(4, 3), (4,)]
    assert all(parameter.dtype == torch.float32 for parameter in loss.parameters())
    twin = ITRD().connect(embeddings(2, 3), embeddings(2, 4))
    twin.load_state_dict(loss.state_dict())
    pair = embeddings(4, 3), embeddings(4, 4, seed=1)
    assert twin(*pair) == loss(*pair)


def test_autocast_changes_nothing() -> None:
    student, teacher = embeddings(5, 4).float().requires_grad_(), embeddings(5, 4, seed=1).float()
    plain = itrd(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert itrd(student, teacher) == plain


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"student_embedding has batch size 1: a correlation .* needs two samples"):
        itrd_correlation(embeddings(1, 4), embeddings(1, 4))
    with pytest.raises(ValueError, match="needs two samples"):
        ITRD().connect(embeddings(2, 3), embeddings(2, 4))(embeddings(1, 3), embeddings(1, 4))
    with pytest.raises(ValueError, match=r"student_embedding has shape \(3, 2\) but teacher_embedding has \(3, 4\)"):
        itrd(embeddings(3, 2), embeddings(3, 4))
    with pytest.raises(ValueError, match="alpha is 0"):
        ITRD(alpha=0)
    with pytest.raises(ValueError, match="mutual is nan"):
        ITRD(mutual=float("nan"))


def test_a_half_gradient_is_narrowed_once() -> None:
    # Two narrowed gradients that overflow with opposite signs would add up to NaN.
    data = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(3))
    half = (1e-5 * data[0]).half().requires_grad_()
    wide = half.detach().float().requires_grad_()
    for student in (half, wide):
        itrd(student, data[1]).backward()
    assert half.grad.isinf().any()
    torch.testing.assert_close(half.grad, wide.grad.half(), rtol=0, atol=0)
