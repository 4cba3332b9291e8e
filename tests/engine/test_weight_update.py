from __future__ import annotations

import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from stillroom.engine.weight_update import WeightUpdate
from stillroom.errors import Stopped
from tests.engine.test_loop import At, run, same_weights
from tests.prepare.test_run_identity import Opening


@pytest.fixture
def update(tmp_path, tiny_data):
    def make(**settings):
        job = Opening(tmp_path, tiny_data)(name=f"run{len(list(tmp_path.iterdir()))}", **settings)
        return job.student, WeightUpdate(job, steps=5)

    return make


def gradients(student, scale):
    torch.manual_seed(3)
    for parameter in student.parameters():
        parameter.grad = scale * torch.randn_like(parameter)


def test_a_large_gradient_is_scaled_down_and_a_small_one_is_not(update):
    def moved(scale, **settings):
        student, one = update(optimizer="sgd", momentum=0.0, weight_decay=0.0, lr=1.0, schedule="constant", **settings)
        before = torch.cat([p.detach().flatten() for p in student.parameters()])
        gradients(student, scale)
        one.step(1, 0)
        assert all(parameter.grad is None for parameter in student.parameters())
        return before - torch.cat([p.detach().flatten() for p in student.parameters()])

    assert moved(1.0, clip_grad_norm=0.5).norm() == pytest.approx(0.5, rel=1e-4)
    torch.testing.assert_close(moved(1e-3, clip_grad_norm=0.5), moved(1e-3))


def test_the_averaged_weights_are_exported_by_choice(update):
    student, one = update(ema=0.9)
    assert one.exported is one.averaged.module
    assert one.compared is None
    other, trained = update(ema=0.9, ema_export=False)
    assert trained.exported is other
    assert trained.compared is trained.averaged.module
    gradients(student, 1.0)
    one.step(1, 0)
    gradients(student, 1.0)
    one.step(1, 1)
    assert not same_weights(student.state_dict(), one.averaged.state_dict())
    one.deliver()
    assert same_weights(student.state_dict(), one.averaged.state_dict())


def test_the_student_of_a_run_has_the_averaged_weights_that_were_validated(tmp_path, tiny_data):
    student, record = run(tmp_path, tiny_data, ema=0.9)
    plain, _ = run(tmp_path, tiny_data, name="plain")
    assert same_weights(load_file(record.student), student.state_dict())
    assert not same_weights(student.state_dict(), plain.state_dict())
    state = torch.load(record.last, weights_only=True)
    assert same_weights(state["averaged"], student.state_dict())
    assert same_weights(state["student"], plain.state_dict())  # the average does not change the training


def test_trained_weights_are_exported_and_the_average_is_recorded_beside(tmp_path, tiny_data):
    student, record = run(tmp_path, tiny_data, ema=0.9, ema_export=False)
    averaged, other = run(tmp_path, tiny_data, ema=0.9, name="averaged")
    plain, _ = run(tmp_path, tiny_data, name="plain")
    assert same_weights(student.state_dict(), plain.state_dict())
    beside = [row["average_top1"] for row in record.epochs()]
    assert beside == [row["val_top1"] for row in other.epochs()]
    assert not same_weights(student.state_dict(), averaged.state_dict())


@pytest.mark.parametrize("step", [3, 10])
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_stopped_run_goes_on_bit_for_bit_with_average_clipping_and_one_cycle(tmp_path, tiny_data, step, precision):
    settings = {"ema": 0.9, "clip_grad_norm": 0.3, "schedule": "onecycle", "precision": precision, "export": "best"}
    whole, _ = run(tmp_path, tiny_data, name="whole", **settings)
    with pytest.raises(Stopped):
        run(tmp_path, tiny_data, reporter=At(step, lambda: os.kill(os.getpid(), signal.SIGTERM)), **settings)
    resumed, _ = run(tmp_path, tiny_data, **settings)
    assert same_weights(whole.state_dict(), resumed.state_dict())
