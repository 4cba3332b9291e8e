"""A loss with a gradient that was computed beside it."""

from __future__ import annotations

import pytest
import torch

from stillroom.losses.given_gradient import wants_gradient, with_gradient


def test_the_gradient_is_wanted_only_where_autograd_will_ask_for_it() -> None:
    student = torch.zeros(2, requires_grad=True)
    assert wants_gradient(student)
    assert not wants_gradient(student.detach())
    with torch.no_grad():
        assert not wants_gradient(student)


@pytest.mark.parametrize("rows", [False, True])
def test_the_given_gradient_times_the_upstream_one_reaches_the_student(rows: bool) -> None:
    student = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = student.detach().pow(3).sum(1)
    loss = with_gradient(student, value if rows else value.sum(), 3 * student.detach().square())
    torch.testing.assert_close(loss, value if rows else value.sum())
    factor = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64) if rows else torch.tensor(5.0).double()
    (gradient,) = torch.autograd.grad((factor * loss).sum(), student)
    torch.testing.assert_close(gradient, factor.reshape(-1, 1) * 3 * student.detach().square())


def test_a_second_derivative_is_refused_and_not_taken_for_zero() -> None:
    student = torch.ones(1, 2, requires_grad=True)
    loss = with_gradient(student, torch.tensor(2.0), 2 * student.detach())
    (gradient,) = torch.autograd.grad(loss.square(), student, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
