from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from stillroom.engine.averaged_weights import AveragedWeights
from stillroom.errors import InputError
from tests.conftest import tiny_model


def drift(model):
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value))
        for value in model.buffers():
            value += 1


def test_the_average_is_that_of_its_definition():
    torch.manual_seed(0)
    model = tiny_model()
    average = AveragedWeights(model, 0.9)
    expected = {name: value.double() for name, value in model.state_dict().items()}
    for step in range(1, 60):
        drift(model)
        average.update(model, step)
        decay = min(0.9, 1 - step ** (-2 / 3))
        for name, value in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-4, atol=1e-5)
        else:
            assert value == model.state_dict()[name]


def test_the_average_does_not_touch_the_student_and_is_not_trained():
    model = tiny_model().train()
    before = copy.deepcopy(model.state_dict())
    average = AveragedWeights(model, 0.9)
    average.update(model, 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not average.module.training
    assert not any(parameter.requires_grad for parameter in average.module.parameters())


class Locked(nn.Linear):
    def __deepcopy__(self, memo):
        raise TypeError("it holds a lock")


def test_a_student_that_cannot_be_copied_is_one_error():
    with pytest.raises(InputError, match=r"ema=0\.9: Locked cannot be copied \(TypeError: it holds a lock\)"):
        AveragedWeights(Locked(2, 2), 0.9)
