"""What the tests of several processes run, alone or under torchrun: ``processes.py FOLDER SCENARIO ...``."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from stillroom.api import run_recipe
from stillroom.config import make_recipe
from stillroom.data import Augment, DataSet
from stillroom.engine.device import make_machine, processes_joined
from stillroom.engine.progress import Silent
from stillroom.errors import Stopped
from stillroom.prepare import Inputs
from tests.conftest import tiny_set

# 18 pictures a step and 80 in all: the last step is short. 11 * 4 validation pictures.
SETTINGS = {
    "data": "tiny", "epochs": 3, "batch_size": 18, "lr": 0.02, "schedule": "cosine", "pad": 1, "precision": "32",
    "accelerator": "cpu", "teacher": "t", "student": "s",
}  # fmt: skip
METHODS = {
    "per-sample": "kd + 10*fitnet(layer=1)",
    "batch": "0.1*dist + sp + 0.1*crd(dim=8, negatives=5)",
    "stages": "ab(initial_epochs=1)",
    "views": "0.1*mlkd",
    "sharded": "kd",
    "banked": "kd",
    "labels": "",
    "stopped": "kd",
    "restarted": "kd",
}
EXTRA = {"sharded": {"shard_teacher": True}, "labels": {"export": "best"}}


def data():
    return DataSet("tiny", tiny_set(20), tiny_set(11, seed=1), (0.5,) * 3, (0.25,) * 3, Augment(pad=1))


def model(width, seed):
    torch.manual_seed(seed)
    layers = []
    for channels, wider in ((3, width), (width, 2 * width)):
        layers.append(nn.Sequential(nn.Conv2d(channels, wider, 3, padding=1), nn.BatchNorm2d(wider), nn.ReLU()))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 4))


def acting(student, step, act):
    """Do something in the middle of a given step of the whole run."""
    steps = iter(range(1, 1000))
    student.register_forward_hook(lambda module, *_: act() if module.training and next(steps) == step else None)
    return student


def distil(folder, scenario, reporter=None, act=None, **settings):
    name = f"{scenario}-{os.environ.get('WORLD_SIZE', '1')}"
    chosen = {**SETTINGS, "method": METHODS[scenario], "runs": str(folder), "name": name, **EXTRA.get(scenario, {})}
    student = model(4, 11) if act is None else acting(model(4, 11), 7, act)
    inputs = Inputs(teacher=model(8, 5), student=student, data=data())
    if scenario == "labels":
        chosen = {key: v for key, v in chosen.items() if key not in ("teacher", "student", "method")} | {"model": "m"}
        inputs = Inputs(student=model(4, 11), data=data())
    if scenario == "banked":
        chosen["bank"] = str(folder / f"bank-{os.environ.get('WORLD_SIZE', '1')}")
    recipe = make_recipe("train" if scenario == "labels" else "distill", {**chosen, **settings})
    return run_recipe(recipe, reporter or Silent(), inputs)


def main():
    folder, rank = Path(sys.argv[1]), int(os.environ.get("RANK", "0"))
    with processes_joined(make_machine("cpu", "32")):
        for scenario in sys.argv[2:]:
            if scenario == "stopped":  # only one of the processes is asked to
                with suppress(Stopped):
                    distil(folder, scenario, act=ask if rank == 1 else None, name="stopped")
            elif scenario == "restarted":  # one process dies in its first life
                first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
                distil(folder, scenario, act=fail if first and rank == 1 else None)
            else:
                distil(folder, scenario)


def ask():
    os.kill(os.getpid(), signal.SIGTERM)


def fail():
    raise RuntimeError("the worker's own trouble")


if __name__ == "__main__":
    main()
