from __future__ import annotations

import pytest
import torch
from torch import nn

from stillroom.models.borrowed import borrowed
from tests.conftest import tiny_model


def state_of(model):
    """Everything about a model that is its owner's."""
    return (
        [
            (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), getattr(m, "momentum", None))
            for m in model.modules()
        ],
        [(name, p.device, p.stride(), p.requires_grad, p.grad) for name, p in model.named_parameters()],
        [(name, b.device, b.stride()) for name, b in model.named_buffers()],
    )


@pytest.mark.parametrize("error", [None, ValueError])
def test_a_model_leaves_as_it_came_but_for_its_values(error):
    model = tiny_model()
    model.train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model.register_buffer("grid", torch.zeros(1, 3, 4, 4).to(memory_format=torch.channels_last))
    model[6].register_forward_hook(lambda *_: None)
    before = state_of(model)
    try:
        with borrowed(model, None):
            model.to(memory_format=torch.channels_last).eval()
            model.requires_grad_(True)
            model[1].momentum = 0.5
            model[0].register_forward_hook(lambda *_: None)
            model[6].register_forward_pre_hook(lambda *_: None)
            model(torch.zeros(2, 3, 8, 8)).sum().backward()
            with torch.no_grad():
                model[0].weight.fill_(3.0)
            if error:
                raise error
    except ValueError:
        assert error
    assert state_of(model) == before
    assert (model[0].weight == 3.0).all()


def test_a_tensor_that_repeats_its_elements_stays_one():
    model = nn.Module()
    model.register_buffer("row", torch.arange(3.0).expand(4, 3))
    with borrowed(model):
        pass
    assert model.row.stride() == (0, 1)
