"""What a recipe leaves open, as it was decided for a run, and kept where the run goes on elsewhere."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from stillroom.config import Recipe
from stillroom.data import DataSet
from stillroom.engine.run_folder import RunFolder
from stillroom.models.batch_norm import bn_momentum_of
from stillroom.models.student_wrapper import unwrapped
from stillroom.resolve import is_run
from stillroom.runtime.device import Machine
from stillroom.runtime.reporters import Reporter


def as_begun(recipe: Recipe, machine: Machine, reporter: Reporter) -> Machine:
    """The machine in the number format of the run that it goes on with, where the recipe leaves the format open.

    Args:
        recipe: the settings.
        machine: where this process computes, in the format it would choose by itself.
        reporter: told if the two formats differ.
    """
    run = RunFolder(Path(recipe.run.runs) / recipe.run_name)
    if recipe.run.precision != "auto" or not is_run(run.path):
        return machine
    there = run.config().get("precision")
    if there not in ("32", "bf16") or there == machine.precision:
        return machine
    reporter.say(
        f"note: this run was begun with precision={there} and goes on with it; by itself it would be "
        f"{machine.precision} here"
    )
    return replace(machine, precision=there)


def settings_of(recipe: Recipe, data: DataSet, student: nn.Module, machine: Machine) -> dict[str, Any]:
    """All settings, with what was left to be decided as it was decided.

    Args:
        recipe: the settings as they were given.
        data: with the augmentation and the normalisation that are used.
        student: the model in the form it is trained in.
        machine: with the number format that is computed in.
    """
    settings = (
        recipe.flat()
        | asdict(data.augment)
        | {"mean": [float(value) for value in data.mean], "std": [float(value) for value in data.std]}
    )
    settings["precision"] = machine.precision
    height, width = data.train.images.shape[2:]
    settings["image_size"] = height if height == width else recipe.data.image_size
    if recipe.optim.bn_momentum is None:
        settings["bn_momentum"] = bn_momentum_of(unwrapped(student))
    return settings
