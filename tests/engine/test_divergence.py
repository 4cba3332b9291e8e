from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from stillroom.engine.divergence import DivergenceCheck
from tests.conftest import tiny_model


@pytest.fixture
def made():
    student = tiny_model()
    student.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    method = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW([*student.parameters(), *method.parameters()])
    student(torch.zeros(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return student, method, optimizer, DivergenceCheck(SimpleNamespace(student=student, method=method), optimizer, 5)


def test_a_mask_that_is_infinite_from_the_start_is_no_trouble(made):
    assert made[-1].not_finite() == ""


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s, m, o: s[0].weight.data[0, 0, 0].fill_(float("nan")), r"student '0.weight' became nan"),
        (lambda s, m, o: s[1].running_var[2].fill_(float("inf")), r"student '1.running_var' became inf"),
        (lambda s, m, o: m.bias.data[0].fill_(float("-inf")), r"method 'bias' became -inf"),
        (
            lambda s, m, o: o.state[s[6].bias]["exp_avg_sq"].fill_(float("inf")),
            r"optimizer's exp_avg_sq of student '6.bias' became inf",
        ),
    ],
)
def test_what_is_no_number_is_named(made, spoil, words):
    student, method, optimizer, health = made
    spoil(student, method, optimizer)
    assert health.not_finite() == words
