"""What the tests of several processes run, alone or under torchrun: ``processes.py FOLDER SCENARIO ...``."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from stillroom.api import run_recipe
from stillroom.config import make_recipe
from stillroom.data import Augment, DataSet
from stillroom.errors import InputError, Stopped
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.device import make_machine, processes_joined
from stillroom.runtime.reporters import Silent
from tests.conftest import tiny_set

# 26 images a step and 80 in all: two are left for the last step, fewer than three processes. 44 validation images.
STEPS = 4
SETTINGS = {
    "data": "tiny", "epochs": 3, "batch_size": 26, "lr": 0.02, "schedule": "cosine", "pad": 1, "precision": "32",
    "accelerator": "cpu", "teacher": "t", "student": "s",
}  # fmt: skip
METHODS = {
    "per-sample": "ctkd + rld(warmup=0) + 10*fitnet(layer=1)",
    "batch": "0.1*dist + 10*sp + 0.1*crd(dim=8, negatives=5)",
    "stages": "ab(initial_epochs=1)",
    "views": "0.1*mlkd",
    "banked": "kd",
    "partial": "0.5*ce + kd",
    "partial-batch": "0.5*ce + 0.1*dist",
    "labels": "",
    "mixed": "kd",
    "stopped": "kd",
    "restarted": "kd",
    "accumulated": "kd + 10*fitnet(layer=1)",
    "accumulated-bf16": "kd",
    "accumulated-partial": "0.5*ce + kd",
    "accumulated-banked": "kd",
    "accumulated-mixed-images": "dkd + 0.1*dist",
    "accumulated-balanced-banked": "kd",
    "small": "kd",
    "few": "kd",
    "early-stopped": "kd",
    "streams-dot": "kd + 10*fitnet(layer=1) + 10*sp",
    "streams-deepkd": "ce + standardized(dkd(beta=2, warmup=0)) + kd",
    "learning": "ce",
    "own-norms": "kd",
    "own-norms-killed": "kd",
    "own-norms-stopped": "kd",
    "compiled": "kd",
    "compiled-own-norms": "kd",
    "moved-batch": "0.1*dist + 0.1*crd(dim=8, negatives=5)",
    "moved-banked": "kd",
    "moved-dropout": "kd",
}
OWN_NORMS = {"batch_norm": "per_process"}
EXTRA = {
    "per-sample": {"log_to": ["tensorboard"]} if find_spec("tensorboard") else {},
    "accumulated": {"accumulate": 2},
    "accumulated-bf16": {"accumulate": 2, "precision": "bf16"},
    "accumulated-partial": {"accumulate": 2},
    "accumulated-banked": {"accumulate": 2},
    "accumulated-mixed-images": {
        "accumulate": 2,
        "mixup": 0.4,
        "cutmix": 1.0,
        "label_smoothing": 0.1,
        "class_weights": "balanced",
    },
    "accumulated-balanced-banked": {"accumulate": 2, "mixup": 0.4, "sampling": "balanced"},
    "small": {"batch_size": 5},  # no multiple of two or four
    "own-norms": OWN_NORMS,
    "own-norms-killed": OWN_NORMS | {"checkpoint_minutes": 1e-9},
    "own-norms-stopped": OWN_NORMS,
    "streams-dot": {"optimizer": "dot", "accumulate": 2},
    "streams-deepkd": {"optimizer": "deepkd", "clip_grad_norm": 1.0},
    "learning": {"epochs": 10},
    "early-stopped": {"epochs": 10, "patience": 2, "stop_fraction": 0.3, "lr": 1e-6, "schedule": "constant"},
    "compiled": {"compile": True},
    "compiled-own-norms": OWN_NORMS | {"compile": True},
    "restarted": {"shard_teacher": True},
    "labels": {"export": "best", "freeze_epochs": 1, "backbone_lr_factor": 0.5},
    "moved-banked": {"export": "best", "checkpoint_every": 2},
}


def data(scenario=""):
    train, val = tiny_set(20), tiny_set(11, seed=1)
    if scenario == "few":
        train = train.at(torch.arange(3))  # fewer images than four processes
    if "-mixed-" in scenario or "balanced" in scenario:
        train.labels[:] = train.ids // 5 % 8 % 4 * (train.ids % 3 > 0)  # classes of different sizes
    if "partial" in scenario:
        train.labels[train.ids % 3 > 0] = -1
    if scenario == "partial-batch":
        val = val.without_labels()
    return DataSet("tiny", train, val, (0.5,) * 3, (0.25,) * 3, Augment(pad=1))


def model(width, seed):
    torch.manual_seed(seed)
    layers = []
    for channels, wider in ((3, width), (width, 2 * width)):
        layers.append(nn.Sequential(nn.Conv2d(channels, wider, 3, padding=1), nn.BatchNorm2d(wider), nn.ReLU()))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 4))


class Mixed(nn.Module):
    """A student with parameters of three number formats."""

    def __init__(self):
        super().__init__()
        body = model(4, 11)
        self.body, self.exact, self.coarse = body[:-1], body[-1].double(), nn.Linear(8, 4).bfloat16()

    def forward(self, images):
        features = self.body(images)
        return self.exact(features.double()).float() + self.coarse(features.bfloat16()).float()


class NoNorms(nn.Module):
    """A student without batch norm, whose steps may be computed in parts."""

    stages = ("relu",)

    def __init__(self):
        super().__init__()
        torch.manual_seed(11)
        self.conv, self.relu, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Linear(8, 4)

    def forward(self, images):
        return self.fc(self.relu(self.conv(images)).mean((2, 3)))


class Places(Silent):
    """Appends the number of steps with which each life of a run begins to a file."""

    def __init__(self, file):
        self.file = file

    def start(self, name, epochs, steps, done, about):
        if os.environ.get("RANK", "0") == "0":
            with self.file.open("a") as lines:
                print(done, file=lines)


class StepLosses(Silent):
    """Appends the loss of every step, as the first process knows it, to a file."""

    def __init__(self, file):
        self.file = file

    def step(self, epoch, images, latest):
        if os.environ.get("RANK", "0") == "0":
            with self.file.open("a") as lines:
                print(sum(latest().values()), file=lines)


def student_of(scenario):
    if scenario.startswith(("accumulated", "streams-dot")):
        return NoNorms()
    if scenario == "moved-dropout":
        made = model(4, 11)
        return nn.Sequential(*made[:-1], nn.Dropout(0.2), made[-1])
    return Mixed() if scenario == "mixed" else model(4, 11)


@contextmanager
def acting(student, step, act):
    """Do something in the middle of a given step of this process."""
    steps = iter(range(1, 1000))

    def hook(module, *_):  # on all modules: a hook of the student's own would make it another student
        if module is student and module.training and next(steps) == step:
            act()

    handle = register_module_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def distil(folder, scenario, reporter=None, act=None, at=7, **settings):
    name = f"{scenario}-{os.environ.get('WORLD_SIZE', '1')}"
    chosen = {**SETTINGS, "method": METHODS[scenario], "runs": str(folder), "name": name, **EXTRA.get(scenario, {})}
    student = student_of(scenario)
    inputs = Inputs(teacher=model(8, 5), student=student, data=data(scenario))
    if scenario == "labels":
        chosen = {key: v for key, v in chosen.items() if key not in ("teacher", "student", "method")} | {"model": "m"}
        inputs = Inputs(student=model(4, 11), data=data())
    if "banked" in scenario:
        chosen["bank"] = str(folder / f"bank-{os.environ.get('WORLD_SIZE', '1')}")
    recipe = make_recipe("train" if scenario == "labels" else "distill", {**chosen, **settings})
    with nullcontext() if act is None else acting(student, at, act):
        return run_recipe(recipe, reporter or Silent(), inputs)


def main():
    """Run after run in one script, each with its own group of processes; the last one in a group of the caller's."""
    folder, rank = Path(sys.argv[1]), int(os.environ.get("RANK", "0"))
    *scenarios, last = sys.argv[2:]
    for scenario in scenarios:
        play(folder, scenario, rank)
    with processes_joined(make_machine("cpu", "32")):
        play(folder, last, rank)


def play(folder, scenario, rank):
    if scenario == "stopped":  # only one of the processes is asked to, and twice
        with suppress(Stopped):
            distil(folder, scenario, act=ask_twice if rank == 1 else None, name="stopped")
    elif scenario == "refused":  # the next run does not suffer from it
        with suppress(InputError):
            distil(folder, "labels", name="refused", batch_size=2)
    elif scenario == "own-norms-killed":  # one process is killed in the second epoch of the first life
        die = fail_hard if rank == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" else None
        distil(folder, scenario, Places(folder / "places.txt"), act=die)
    elif scenario == "own-norms-stopped":
        if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":  # a second life would end it
            with suppress(Stopped):
                distil(folder, scenario, act=ask if rank == 1 else None, name=scenario)
    elif scenario == "learning":
        distil(folder, scenario, StepLosses(folder / "losses.txt"))
    elif scenario == "restarted":  # one process dies in each of its lives
        distil(folder, scenario, act=fail if rank == 1 else None, name=scenario)
    elif scenario == "told":  # until somebody tells all of them to stop
        distil(folder, "per-sample", epochs=1000, name=scenario)
    elif scenario.startswith("moved"):  # stopped after the step in which one process was asked
        with suppress(Stopped):
            distil(folder, scenario, act=ask if rank == 2 else None, at=5, name=scenario)
    else:
        distil(folder, scenario)


def ask():
    os.kill(os.getpid(), signal.SIGTERM)


def ask_twice():
    ask()
    ask()


def fail_hard():
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise RuntimeError("the worker's own trouble")


if __name__ == "__main__":
    main()
