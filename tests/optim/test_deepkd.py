"""DeepKD against the public code's traces, and as the paper has it against its definition."""

from __future__ import annotations

import pytest
import torch

from stillroom.optim import DeepKD
from tests.golden import Golden, cases
from tests.optim.replay import check_trace, weights_of
from tests.references.stream_optimizers import deepkd as reference

NAMES = {"task": "task", "target": "tckd", "non_target": "nckd"}
RENAMED = {"delta_tog": "task_delta", "delta_tcg": "target_delta", "delta_ncg": "non_target_delta"}


@pytest.mark.parametrize("case", cases("optim_deepkd"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    settings = {RENAMED.get(name, name): value for name, value in case.hyper.items() if name != "momenta"}
    weights = weights_of(case)
    check_trace(DeepKD(weights, **settings, as_coded=True), case, weights, NAMES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("streams", [(0, 1, 2), (0,), (1,), (2,), (1, 2), (0, 2), "sometimes"])
def test_reference(dtype: torch.dtype, streams: tuple[int, ...] | str) -> None:
    settings = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    deltas = (0.075, -0.075, 0.05)
    start = torch.linspace(-1, 1, 5).to(dtype)
    gradients = torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight = torch.nn.Parameter(start.clone())
    named = dict(zip(("task_delta", "target_delta", "non_target_delta"), deltas, strict=True))
    optimizer, steps = DeepKD([weight], **settings, **named), []
    for number, each in enumerate(gradients):
        here = [i for i in range(3) if i != number % 4] if streams == "sometimes" else streams
        losses = {DeepKD.streams[i]: (weight * each[i]).sum() for i in here}
        optimizer.accumulate(**losses)
        optimizer.step()
        optimizer.zero_grad()
        steps.append([each[i] if i in here else None for i in range(3)])
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2**-5, "atol": 2**-5}
    for i in range(5):
        single = [[None if g is None else float(g[i]) for g in step] for step in steps]
        expected = torch.tensor(reference(float(start[i]), single, deltas=deltas, **settings)[-1])
        torch.testing.assert_close(weight[i].detach().float(), expected, **tolerance)


def test_as_coded_the_tasks_momentum_has_no_effect_and_by_default_it_has() -> None:
    def end(**settings: float) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 5))
        optimizer = DeepKD([weight], lr=0.05, **settings)
        for _ in range(3):
            optimizer.accumulate(task=weight.sum(), target=(weight**2).sum(), non_target=weight.square().mean())
            optimizer.step()
            optimizer.zero_grad()
        return weight.detach()

    assert torch.equal(end(as_coded=True, task_delta=0.05), end(as_coded=True, task_delta=0.01))
    assert not torch.equal(end(task_delta=0.05), end(task_delta=0.01))


def test_refused_settings() -> None:
    with pytest.raises(ValueError, match=r"momentum \+ non_target_delta is 1.1"):
        DeepKD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, non_target_delta=0.2)
