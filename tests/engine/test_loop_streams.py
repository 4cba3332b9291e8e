"""Runs whose optimizer keeps gradient streams apart, and runs with an optimizer of timm."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stillroom.api import run_recipe
from stillroom.config import make_recipe
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import Diverged, InputError, Stopped
from stillroom.losses import kd
from stillroom.losses.logit.dkd import dkd_terms
from stillroom.optim import DOT, DeepKD
from stillroom.prepare.python_inputs import Inputs
from tests.conftest import tiny_model
from tests.engine.processes import NoNorms
from tests.engine.test_data_parallel import COMPILER
from tests.engine.test_loop import SETTINGS, At, run, same_weights

ONE_STEP = {"epochs": 1, "batch_size": 80, "schedule": "constant", "pad": 0, "flip": False, "weight_decay": 0.01}


@pytest.fixture
def teacher():
    torch.manual_seed(5)
    return tiny_model(width=16)


def one_run(tmp_path, data, teacher, method, name="run", **settings):
    """A run of a student without dropout and batch norm."""
    student = NoNorms()
    chosen = {**SETTINGS, "teacher": "t", "student": "s", "method": method, "runs": str(tmp_path), "name": name}
    recipe = make_recipe("distill", {**chosen, **settings})
    return run_recipe(recipe, inputs=Inputs(teacher=teacher, student=student, data=data), reporter=At(0, None)).student


def whole_set(data):
    """All training images as the models see them, and their labels."""
    images = (data.train.images.float() / 255 - 0.5) / 0.25
    return images, data.train.labels


@pytest.mark.parametrize("optimizer", ["dot", "deepkd"])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_run_steps_as_a_loop_of_ones_own(tmp_path, tiny_data, teacher, optimizer, accumulate):
    method = "0.5*ce + dkd(beta=2, warmup=0)"
    student = one_run(
        tmp_path, tiny_data, teacher, method, optimizer=optimizer, accumulate=accumulate, **{**ONE_STEP, "epochs": 3}
    )
    mine = NoNorms()
    kind = DOT if optimizer == "dot" else DeepKD
    plain = kind(mine.parameters(), lr=0.1, weight_decay=0.01)
    images, labels = whole_set(tiny_data)
    shown = teacher.eval()(images).detach()
    for _ in range(3):
        logits = mine(images)
        task, parts = 0.5 * F.cross_entropy(logits, labels), dkd_terms(logits, shown, labels)
        if optimizer == "dot":
            plain.accumulate(task=task, distillation=parts.target + 2 * parts.non_target)
        else:
            plain.accumulate(task=task, target=parts.target, non_target=2 * parts.non_target)
        plain.step()
        plain.zero_grad()
    for ours, theirs in zip(student.parameters(), mine.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_large_gradient_is_scaled_down_by_the_norm_of_the_sum(tmp_path, tiny_data, teacher):
    settings = {**ONE_STEP, "optimizer": "dot", "weight_decay": 0.0, "lr": 1.0, "clip_grad_norm": 0.01}
    student = one_run(tmp_path, tiny_data, teacher, "ce + kd", **settings)
    moved = [(a - b).detach().flatten() for a, b in zip(student.parameters(), NoNorms().parameters(), strict=True)]
    assert float(torch.cat(moved).norm()) == pytest.approx(0.01, rel=1e-3)


EVERYTHING = {"ema": 0.9, "clip_grad_norm": 0.5, "checkpoint_every": 1}


@pytest.mark.parametrize(
    ("optimizer", "method", "settings"),
    [
        ("dot", "ce + kd + 10*fitnet(layer=1)", {"accumulate": 4, "precision": "bf16", "mixup": 0.4}),
        ("deepkd", "dkd(top_k=2, top_k_epochs=2, warmup=2)", {"freeze_epochs": 1, "cutmix": 1.0}),
        ("lamb", "kd", {"lr": 0.01, "accumulate": 2}),
        ("lion", "kd", {"lr": 0.001}),
    ],
)
@pytest.mark.parametrize("step", [3, 8])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, tiny_data, teacher, optimizer, method, settings, step):
    settings = {**EVERYTHING, **settings, "optimizer": optimizer}
    whole, _ = run(tmp_path, tiny_data, teacher, method, name="whole", **settings)
    stop = At(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        run(tmp_path, tiny_data, teacher, method, reporter=stop, **settings)
    resumed, record = run(tmp_path, tiny_data, teacher, method, **settings)
    assert same_weights(whole.state_dict(), resumed.state_dict())
    assert [row["loss"] for row in record.epochs()] == [row["loss"] for row in RunFolder(tmp_path / "whole").epochs()]


def test_every_term_is_recorded_as_with_one_stream(tmp_path, tiny_data, teacher):
    settings = {**ONE_STEP, "method": "dkd(warmup=0)"}
    rows = []
    for optimizer in ("sgd", "deepkd"):
        one_run(tmp_path, tiny_data, teacher, name=optimizer, optimizer=optimizer, **settings)
        rows += RunFolder(tmp_path / optimizer).epochs()
    assert rows[0]["terms"] == pytest.approx(rows[1]["terms"], rel=1e-5)


def test_the_teachers_bank_serves_streams(tmp_path, tiny_data, teacher):
    settings = {"optimizer": "dot", "epochs": 2}
    banked, _ = run(tmp_path, tiny_data, teacher, "kd", name="banked", bank=str(tmp_path / "bank"), **settings)
    plain, _ = run(tmp_path, tiny_data, teacher, "kd", name="plain", **settings)
    for one, other in zip(banked.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)  # logits are stored in 16 bits


class Endless(nn.Module):
    per_sample = True

    def forward(self, student_logits, teacher_logits, epoch):
        return kd(student_logits, teacher_logits) * (float("nan") if epoch == 2 else 1)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, tiny_data, teacher):
    from stillroom.methods import Method, Term

    with pytest.raises(Diverged, match="loss term 'endless' became nan"):
        run(tmp_path, tiny_data, teacher, Method([Term(Endless())]), optimizer="dot")


def test_it_is_said_what_streams_cost(tmp_path, tiny_data, teacher):
    class Notes(At):
        lines = ()

        def say(self, line):
            self.lines = (*self.lines, line)

    notes = Notes(0, None)
    run(tmp_path, tiny_data, teacher, "dkd", reporter=notes, optimizer="deepkd", epochs=1)
    (line,) = (line for line in notes.lines if "optimizer=deepkd" in line)
    assert "task (ce), target (dkd) and non_target (dkd): 3 backward passes in each step" in line


@pytest.mark.parametrize("optimizer", ["sgd", "dot"])
def test_a_run_in_which_nothing_that_is_trained_has_a_gradient_is_refused(tmp_path, tiny_data, teacher, optimizer):
    with pytest.raises(InputError, match="everything that they read is frozen; freeze less"):
        run(tmp_path, tiny_data, teacher, "0*ce + sp", optimizer=optimizer, freeze=["0", "1"])


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler here")
def test_a_compiled_student_serves_several_backward_passes(tmp_path, tiny_data, teacher):
    settings = {"optimizer": "dot", "epochs": 1, "batch_size": 40}
    compiled, plain = (
        one_run(tmp_path, tiny_data, teacher, "ce + kd", name=str(choice), compile=choice, **settings)
        for choice in (True, False)
    )
    for one, other in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
