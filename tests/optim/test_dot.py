"""DOT against the public code's traces and against its definition."""

from __future__ import annotations

import pytest
import torch

from stillroom.optim import DOT
from tests.golden import Golden, cases
from tests.optim.replay import check_trace, weights_of
from tests.references.stream_optimizers import dot as reference

NAMES = {"task": "task", "distillation": "kd"}


@pytest.mark.parametrize("case", cases("optim_dot"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    weights = weights_of(case)
    check_trace(DOT(weights, **case.hyper), case, weights, NAMES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("missing", ["none", "task", "distillation", "sometimes"])
def test_reference(dtype: torch.dtype, missing: str) -> None:
    settings = {"lr": 0.05, "momentum": 0.9, "delta": 0.075, "weight_decay": 0.01}
    start = torch.linspace(-1, 1, 5).to(dtype)
    gradients = torch.randn(8, 2, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight = torch.nn.Parameter(start.clone())
    optimizer, steps = DOT([weight], **settings), []
    for number, (of_task, of_teacher) in enumerate(gradients):
        there = {"task": of_task, "distillation": of_teacher}
        if missing in there or (missing == "sometimes" and number % 3):
            del there[missing if missing in there else list(there)[number % 2]]
        optimizer.accumulate(**{stream: (weight * gradient).sum() for stream, gradient in there.items()})
        optimizer.step()
        optimizer.zero_grad()
        steps.append([there.get(stream) for stream in DOT.streams])
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2**-5, "atol": 2**-5}
    for i in range(5):
        single = [[None if g is None else float(g[i]) for g in step] for step in steps]
        expected = torch.tensor(reference(float(start[i]), single, **settings)[-1])
        torch.testing.assert_close(weight[i].detach().float(), expected, **tolerance)


def test_with_one_stream_it_is_sgd() -> None:
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(2))
    settings = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    one, other = DOT([ours], **settings), torch.optim.SGD([theirs], **settings)
    for _ in range(4):
        one.accumulate(task=(ours**2).sum())
        other.zero_grad()
        (theirs**2).sum().backward()
        one.step()
        one.zero_grad()
        other.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "lr is -1.0: give a number >= 0"),
        ({"lr": 0.1, "momentum": float("nan")}, "momentum is nan: give a number from 0 to 1"),
        ({"lr": 0.1, "delta": 0.2}, r"momentum \+ delta is 1.1"),
        ({"lr": 0.1, "momentum": 0.1, "delta": 0.2}, "momentum - delta is -0.1: give a number from 0 to 1"),
    ],
)
def test_refused_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DOT([torch.nn.Parameter(torch.zeros(1))], **settings)
