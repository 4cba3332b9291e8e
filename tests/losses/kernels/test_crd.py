"""One direction of CRD: both ways of reading the memory agree, and the gradient is that of the plain computation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stillroom.losses.kernels import crd as kernel
from stillroom.losses.numerics import unit_rows
from tests.losses.draw import gradient_of

PICKS = torch.tensor([[0, 3, 3, 5], [4, 1, 2, 0], [1, 5, 4, 4]])
TEMPERATURE = 0.5


def drawn(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return unit_rows(torch.randn(count, 5, generator=generator, dtype=torch.float64))


def plain(unit: Tensor, memory: Tensor, log_z: Tensor) -> Tensor:
    """The same from autograd, with the public code's guard."""
    ratio = PICKS.shape[1] - 1
    p = ((unit.unsqueeze(1) * memory[PICKS]).sum(2) / TEMPERATURE - log_z).exp()
    noise = ratio / len(memory)
    same = -(p[:, 0] / (p[:, 0] + noise + kernel.EPSILON)).log()
    other = -(noise / (p[:, 1:] + noise + kernel.EPSILON)).log()
    return (same.sum() + other.sum()) / len(unit)


@pytest.mark.parametrize("all_rows", [64, 0])
@pytest.mark.parametrize("log_z", [1.3, math.nan])
def test_value_and_gradient_equal_the_plain_computation(
    all_rows: int, log_z: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "ALL_ROWS", all_rows)
    unit, memory = drawn(3, 0).requires_grad_(), drawn(6, 1)
    given = torch.tensor(log_z, dtype=torch.float64)
    loss, used = kernel.contrast(unit, memory, PICKS, given, TEMPERATURE)
    if math.isnan(log_z):
        mean = ((unit.detach().unsqueeze(1) * memory[PICKS]).sum(2) / TEMPERATURE).exp().mean()
        torch.testing.assert_close(used, (len(memory) * mean).log())
    else:
        assert used == given
    expected = plain(unit, memory, used)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient_of(3 * loss, unit), gradient_of(3 * expected, unit))


def test_the_memory_may_change_before_backward_and_gets_no_gradient() -> None:
    unit, memory = drawn(3, 0).requires_grad_(), drawn(6, 1).requires_grad_()
    log_z = torch.tensor(0.0, dtype=torch.float64)
    loss, _ = kernel.contrast(unit, memory, PICKS, log_z, TEMPERATURE)
    expected = gradient_of(plain(unit, memory.detach().clone(), log_z), unit)
    with torch.no_grad():
        memory.zero_()
    loss.backward()
    torch.testing.assert_close(unit.grad, expected)
    assert memory.grad is None


def test_autocast_changes_nothing() -> None:
    unit, memory, log_z = drawn(3, 0).float(), drawn(6, 1).float(), torch.tensor(0.0)
    with torch.autocast("cpu", torch.bfloat16):
        cast, _ = kernel.contrast(unit, memory, PICKS, log_z, TEMPERATURE)
    assert torch.equal(cast, kernel.contrast(unit, memory, PICKS, log_z, TEMPERATURE)[0])
