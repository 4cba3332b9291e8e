from __future__ import annotations

import pytest

from stillroom import trial_steps
from stillroom.config import make_recipe
from stillroom.prepare.prepare import build_run
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.device import make_machine
from stillroom.runtime.reporters import Silent
from stillroom.trial_steps import take_trial_steps
from tests.conftest import tiny_model


def ready(data, teacher=None, **settings):
    models = {"model": "m"} if teacher is None else {"teacher": "t", "student": "s", "method": "kd"}
    recipe = make_recipe("train" if teacher is None else "distill", {
        **models, "data": "tiny", "epochs": 2, "accelerator": "cpu", "precision": "32", "batch_size": 16, **settings,
    })  # fmt: skip
    inputs = Inputs(teacher=teacher, student=tiny_model(), data=data)
    return build_run(recipe, inputs, Silent(), make_machine("cpu", "32"))


@pytest.mark.parametrize("batch_size", [80, 40, 16])
def test_steps_are_timed_in_an_epoch_of_any_length(tiny_data, batch_size):
    found = take_trial_steps(ready(tiny_data, batch_size=batch_size))
    assert found.steps == 80 // batch_size
    assert found.step_seconds > 0
    assert found.images_per_second == pytest.approx(batch_size / found.step_seconds)
    assert found.val_seconds > 0
    assert found.teacher_seconds == 0


def test_a_teacher_is_validated_once(tiny_data):
    assert take_trial_steps(ready(tiny_data, tiny_model(width=16))).teacher_seconds > 0


def test_steps_that_take_long_are_few(tiny_data, monkeypatch):
    monkeypatch.setattr(trial_steps, "SECONDS", 0.0)
    monkeypatch.setattr(trial_steps, "UNTIMED", 1)
    images = []
    step = trial_steps._StepClock.step
    monkeypatch.setattr(trial_steps._StepClock, "step", lambda *given: (images.append(given[2]), step(*given)))
    take_trial_steps(ready(tiny_data))
    assert len(images) == 2, "one that is not timed, one that is"
