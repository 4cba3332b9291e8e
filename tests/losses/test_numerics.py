"""Numbers that stay finite and exact where the plain formula would not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stillroom.losses.numerics import (
    as_rows,
    class_gap,
    kl_binary,
    kl_rows,
    log_softmax_outside,
    negligible,
    or_one,
    unit_rows,
    widen,
)
from tests.losses.draw import gradient_of, make

DATA = make(5, 7, seed=3)
LABEL = DATA.target.unsqueeze(1)


@pytest.mark.parametrize("dtypes", [(torch.float16, torch.bfloat16), (torch.float32, torch.float16)])
def test_both_networks_come_to_float32_and_only_the_student_keeps_its_graph(dtypes: tuple[torch.dtype, ...]) -> None:
    student, teacher = (
        x.to(dtype).requires_grad_() for x, dtype in zip((DATA.student, DATA.teacher), dtypes, strict=True)
    )
    wide = widen(student, teacher)
    assert [x.dtype for x in wide] == [torch.float32] * 2
    assert [x.requires_grad for x in wide] == [True, False]
    assert gradient_of(wide[0].sum(), student).dtype == dtypes[0]


def test_one_float64_network_brings_both_there() -> None:
    assert {x.dtype for x in widen(DATA.student.float(), DATA.teacher)} == {torch.float64}


def test_every_leading_position_is_a_row() -> None:
    student, teacher = as_rows(DATA.student.expand(2, 3, 5, 7), DATA.teacher.expand(2, 3, 5, 7))
    assert torch.equal(student, DATA.student.repeat(6, 1))
    assert torch.equal(teacher, DATA.teacher.repeat(6, 1))


def test_a_softmax_outside_is_that_of_the_classes_left() -> None:
    excluded = torch.tensor([[0, 3], [1, 2], [6, 5], [4, 0], [2, 6]])
    found = log_softmax_outside(DATA.student, excluded)
    for row, logits, out in zip(found, DATA.student, excluded, strict=True):
        kept = [c for c in range(7) if c not in out.tolist()]
        torch.testing.assert_close(row[kept], logits[kept].log_softmax(0))
        assert not row[out].any()


def test_an_excluded_class_has_no_influence_at_any_magnitude() -> None:
    logits = DATA.student.scatter(1, LABEL, 1e30).requires_grad_()
    found = log_softmax_outside(logits, LABEL)
    assert torch.equal(found, log_softmax_outside(DATA.student, LABEL))
    gradient = gradient_of((found * DATA.teacher).sum(), logits)
    assert gradient.isfinite().all()
    assert not gradient.gather(1, LABEL).any()


def test_a_class_gap_is_the_logit_of_its_probability() -> None:
    p = DATA.student.softmax(1).gather(1, LABEL).squeeze(1)
    torch.testing.assert_close(class_gap(DATA.student, LABEL), p.logit())


def test_a_class_gap_keeps_what_a_probability_rounds_away() -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0]])
    assert class_gap(logits, torch.tensor([[0]])) == 200 - torch.tensor(2.0).log()


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    p, q = teacher.softmax(-1), student.softmax(-1)
    return (p * (p / q).log()).sum(-1)


def test_divergences_equal_the_definition() -> None:
    student, teacher = DATA.student, DATA.teacher
    torch.testing.assert_close(kl_rows(student.log_softmax(1), teacher.log_softmax(1)), kl(student, teacher))
    pairs = [torch.stack((x[:, 0], x[:, 1]), 1) for x in (student, teacher)]
    gaps = [x[:, 0] - x[:, 1] for x in pairs]
    torch.testing.assert_close(kl_binary(*gaps), kl(*pairs))


@pytest.mark.parametrize("teacher", [-1e30, -200.0, 0.0, 200.0])
def test_a_two_way_divergence_and_its_gradient_stay_finite(teacher: float) -> None:
    student = torch.tensor([-1e30, -200.0, 0.0, 200.0, 1e30], requires_grad=True)
    divergence = kl_binary(student, torch.full((5,), teacher))
    assert divergence.isfinite().all()
    assert (divergence >= 0).all()
    assert gradient_of(divergence.sum(), student).isfinite().all()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_directions_do_not_depend_on_the_length(scale: float) -> None:
    x = DATA.student.float()
    torch.testing.assert_close(unit_rows(scale * x), unit_rows(x))
    torch.testing.assert_close(torch.linalg.vector_norm(unit_rows(scale * x), dim=1), torch.ones(5))


def test_the_gradient_of_a_direction_is_that_of_the_definition() -> None:
    x = DATA.student.clone().requires_grad_()
    expected = gradient_of((x / x.norm(dim=1, keepdim=True) * DATA.teacher).sum(), x)
    torch.testing.assert_close(gradient_of((unit_rows(x) * DATA.teacher).sum(), x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_zero_vector_stays_zero_with_a_finite_gradient(dtype: torch.dtype) -> None:
    x = torch.zeros(1, 3, dtype=dtype, requires_grad=True)
    assert not unit_rows(x).any()
    assert gradient_of(unit_rows(x).sum(), x).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_only_a_scale_of_next_to_nothing_is_replaced(dtype: torch.dtype) -> None:
    small = negligible(dtype)
    scale = torch.tensor([0.0, small / 2, 2 * small, 3.0], dtype=dtype)
    assert or_one(scale).tolist() == [1.0, 1.0, scale[2].item(), 3.0]
