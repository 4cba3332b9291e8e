"""Runs of four epochs that are logged, whole or killed on the way."""

from __future__ import annotations

import pytest
import torch

from stillroom.api import run_recipe
from stillroom.config import make_recipe
from stillroom.loggers import Logger, logging_reporter
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.reporters import Lines
from stillroom.trust import given
from tests.conftest import tiny_model

STEPS = 5  # in an epoch of 80 images
EPOCHS = 4


class Recording(Logger):
    """Keeps every call; the class is what a run names."""

    calls: list = []  # noqa: RUF012

    def __init__(self):
        type(self).calls.append(("made",))

    def start(self, run):
        self.calls.append(("start", run.name, run.settings["epochs"], run.steps, run.done))

    def step(self, step, losses):
        self.calls.append(("step", step, dict(losses)))

    def epoch(self, epoch, metrics):
        self.calls.append(("epoch", epoch, dict(metrics)))

    def finish(self, summary):
        self.calls.append(("finish", summary["last"]["epoch"]))

    def close(self):
        self.calls.append(("close",))


class Failing(Recording):
    """Fails in the second epoch, and again when it is closed."""

    def epoch(self, epoch, metrics):
        super().epoch(epoch, metrics)
        if epoch == 2:
            raise ConnectionError("the tracker is out of reach")

    def close(self):
        super().close()
        raise ConnectionError("still out of reach")


class Whole:
    """No logger: it lacks the other methods."""

    def start(self, run):
        raise AssertionError


class KilledError(Exception):
    """Ends a run as a kill does: nothing is saved."""


class Killing(Lines):
    """Ends the run after a step."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def step(self, epoch, images, values):
        self.left -= 1
        if self.left == 0:
            raise KilledError


def train_logged(folder, data, *names, reporter=None, name="r", **settings):
    """Train four epochs, with a checkpoint after every second one, or continue the run."""
    torch.manual_seed(3)
    recipe = make_recipe("train", {
        "model": "m", "data": "tiny", "epochs": EPOCHS, "batch_size": 16, "lr": 0.05, "accelerator": "cpu",
        "precision": "32", "checkpoint_every": 2, "runs": str(folder), "name": name, "log_to": list(names), **settings,
    })  # fmt: skip
    inputs = Inputs(student=tiny_model(), data=data, trust=given([list(names)]))
    return run_recipe(recipe, reporter or Lines(lambda _: None), inputs).record


def kill_and_resume(folder, data, *names, every_step=True):
    """A run that is killed after three epochs were logged and two were saved, and then continued."""
    with pytest.MonkeyPatch.context() as patch:
        if every_step:
            patch.setattr(logging_reporter, "STEP_SECONDS", 0.0)
        with pytest.raises(KilledError):
            train_logged(folder, data, *names, reporter=Killing(3 * STEPS + 2))
        return train_logged(folder, data, *names)
