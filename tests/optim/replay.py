"""Steps with given gradients, for the tests of the optimizers."""

from __future__ import annotations

import torch
from torch import Tensor

from stillroom.optim import StreamOptimizer
from tests.golden import Golden


def weights_of(case: Golden) -> list[torch.nn.Parameter]:
    """The parameters with which a stored trace begins."""
    count = case.arrays[next(key for key in case.arrays if key.startswith("has_"))].shape[1]
    return [torch.nn.Parameter(case.tensor(f"param_{j}")) for j in range(count)]


def given(case: Golden, stream: str, step: int, weights: list[torch.nn.Parameter]) -> Tensor:
    """A loss whose gradients are the stored ones of a stream; without a graph where none is stored."""
    has = case.tensor(f"has_{stream}")[step]
    terms = [(w * case.tensor(f"grad_{stream}_{j}")[step]).sum() for j, w in enumerate(weights) if has[j]]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def replay(
    optimizer: StreamOptimizer, case: Golden, weights: list[torch.nn.Parameter], names: dict[str, str], steps: range
) -> list[list[Tensor]]:
    """Take the stored steps; the weights after each of them."""
    after = []
    for step in steps:
        optimizer.accumulate(**{ours: given(case, theirs, step, weights) for ours, theirs in names.items()})
        optimizer.step()
        optimizer.zero_grad()
        after.append([weight.detach().clone() for weight in weights])
    return after


def check_trace(
    optimizer: StreamOptimizer, case: Golden, weights: list[torch.nn.Parameter], names: dict[str, str]
) -> None:
    """Replay a stored trace and compare weights and buffers."""
    close = {"rtol": 1e-9, "atol": 1e-11}
    trace = replay(optimizer, case, weights, names, range(6))
    for j, weight in enumerate(weights):
        torch.testing.assert_close(torch.stack([state[j] for state in trace]), case.tensor(f"trace_{j}"), **close)
        for ours, theirs in names.items():
            buffer = optimizer.state[weight].get(f"momentum_{ours}", torch.zeros_like(weight))
            torch.testing.assert_close(buffer.detach(), case.tensor(f"buffer_{theirs}_{j}"), **close)
