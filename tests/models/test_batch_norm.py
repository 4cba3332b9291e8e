"""Batch norms forget as fast as they are told."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import stillroom
from stillroom.errors import InputError
from stillroom.models.batch_norm import bn_window, set_bn_momentum
from tests.conftest import tiny_model

FAST = {"epochs": 1, "batch_size": 16, "accelerator": "cpu", "precision": "32"}


def slow_model(momentum: float = 0.001) -> nn.Module:
    model = tiny_model()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
    return model


def test_the_running_statistics_are_those_of_the_last_batch_at_momentum_one():
    model, images = slow_model(), 3 + torch.randn(8, 3, 16, 16)
    set_bn_momentum(model, 1.0)
    trained = model.train()(images)
    assert trained.shape[0] == 8
    # Up to the bias of the variance, evaluation now normalises as training did.
    torch.testing.assert_close(model.eval()(images), trained, rtol=0.05, atol=0.05)


def test_the_slowest_norm_counts_and_one_without_momentum_does_not():
    norms = [
        nn.BatchNorm2d(3),
        nn.BatchNorm1d(3, momentum=0.01),
        nn.BatchNorm2d(3, momentum=None),
        nn.InstanceNorm2d(3),
    ]
    assert bn_window(nn.Sequential(*norms)) == pytest.approx(100)
    assert bn_window(nn.Linear(2, 2)) == 0


def test_statistics_that_lag_are_said_and_mended(tmp_path, tiny_data, capsys):
    runs = {"data": tiny_data, "runs": str(tmp_path), "progress": True, **FAST}
    _, slow = stillroom.train(model=slow_model(), name="slow", **runs)
    assert "average over some 1,000 steps" in capsys.readouterr().err
    model, quick = stillroom.train(model=slow_model(), name="quick", bn_momentum=0.1, **runs)
    assert "average over" not in capsys.readouterr().err
    assert bn_window(model) == pytest.approx(1000)  # the user's own module leaves as it came
    assert slow.config()["bn_momentum"] == 0.001
    assert quick.config()["bn_momentum"] == 0.1


def test_a_student_without_batch_norms_cannot_have_their_momentum(tmp_path, tiny_data):
    plain = nn.Sequential(nn.Flatten(), nn.Linear(tiny_data.train.images[0].numel(), len(tiny_data.train.classes)))
    with pytest.raises(InputError, match=r"bn_momentum=0.1: the trained model has no batch norms"):
        stillroom.train(model=plain, data=tiny_data, runs=str(tmp_path), bn_momentum=0.1, **FAST)
    with pytest.raises(InputError, match=r"bn_momentum=0.0: give above 0 and at most 1"):
        stillroom.train(model=plain, data=tiny_data, runs=str(tmp_path), bn_momentum=0.0, **FAST)
    assert not list(tmp_path.iterdir())
