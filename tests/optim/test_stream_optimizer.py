"""What DOT and DeepKD share: how gradients get in, clipping, saving, several groups."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from stillroom.optim import DOT, DeepKD
from tests.golden import cases
from tests.optim.replay import replay, weights_of

NAMES = {"task": "task", "distillation": "kd"}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def losses(model: nn.Module) -> dict[str, torch.Tensor]:
    output = model(torch.linspace(-1, 1, 15).reshape(5, 3))
    return {"task": output.square().mean(), "distillation": output.sin().sum()}


def test_each_stream_gets_the_gradients_of_its_own_loss_from_one_forward_pass() -> None:
    model = network()
    optimizer = DOT(model.parameters(), lr=0.1)
    for _ in range(2):  # the second pass adds to the first
        optimizer.accumulate(**losses(model))
    for stream, loss in losses(model).items():
        alone = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        for parameter, gradient in zip(model.parameters(), alone, strict=True):
            torch.testing.assert_close(optimizer.gradients[stream][parameter], 2 * gradient)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_frozen_and_unused_parameters_stay() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    optimizer = DOT(model.parameters(), lr=0.1, weight_decay=0.1)
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer.accumulate(task=model[2].weight.sum())
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [False, False, True, False]


def test_a_saved_optimizer_goes_on_with_the_same_bits() -> None:
    case = cases("optim_dot")[0]
    weights = weights_of(case)
    optimizer = DOT(weights, **case.hyper)
    replay(optimizer, case, weights, NAMES, range(3))
    others = [nn.Parameter(weight.detach().clone()) for weight in weights]
    other = DOT(others, lr=1.0)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    ends = [replay(one, case, mine, NAMES, range(3, 6))[-1] for one, mine in ((optimizer, weights), (other, others))]
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_clipping_scales_the_streams_by_the_norm_of_their_sum() -> None:
    model = network()
    optimizer = DOT(model.parameters(), lr=0.1)
    optimizer.accumulate(**losses(model))
    before = {stream: dict(of) for stream, of in copy.deepcopy(list(optimizer.gradients.items()))}
    sum(losses(model).values()).backward()
    expected = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    model.zero_grad()
    limit = float(expected) / 4
    norm = optimizer.clip_gradients(limit)
    torch.testing.assert_close(norm, expected)
    for stream, there in optimizer.gradients.items():
        for now, old in zip(there.values(), before[stream].values(), strict=True):
            torch.testing.assert_close(now, old / 4, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(optimizer.clip_gradients(1e9), expected / 4, rtol=1e-5, atol=1e-7)


def test_groups_have_settings_of_their_own() -> None:
    model = network()
    first, second = list(model[0].parameters()), list(model[2].parameters())
    optimizer = DOT([{"params": first, "lr": 0.0}, {"params": second}], lr=0.1)
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer.accumulate(**losses(model))
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [False, False, True, True]


def test_a_copied_optimizer_works() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = copy.deepcopy(DOT([weight], lr=0.1))
    (mine,) = optimizer.param_groups[0]["params"]
    optimizer.accumulate(task=mine.sum())
    optimizer.step()
    assert torch.equal(mine.data, torch.full((2,), 0.9))


def test_a_loss_without_a_graph_adds_nothing() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = DOT([weight], lr=0.1)
    optimizer.accumulate(task=torch.zeros(()), distillation=weight.sum())
    assert not optimizer.gradients["task"]
    assert optimizer.gradients["distillation"]


def test_backward_in_place_of_accumulate_is_an_error() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = DOT([weight], lr=0.1)
    weight.sum().backward()
    with pytest.raises(RuntimeError, match=r"call optimizer.accumulate\(task=..., distillation=...\)"):
        optimizer.step()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kd": torch.zeros(())}, "DeepKD has no stream 'kd'; it has task, target, non_target"),
        ({"task": torch.zeros(3)}, r"loss of stream 'task' has shape \(3,\): give a scalar"),
    ],
)
def test_refused_losses(given: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepKD([nn.Parameter(torch.ones(2))], lr=0.1).accumulate(**given)


def test_a_closure_is_called() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = DOT([weight], lr=0.1)

    def closure() -> float:
        optimizer.accumulate(task=weight.sum())
        return 3.0

    assert optimizer.step(closure) == 3.0
    assert torch.equal(weight.data, torch.full((2,), 0.9))
