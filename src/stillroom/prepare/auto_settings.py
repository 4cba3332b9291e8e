"""Resolve automatic settings: precision, image size, batch-norm momentum, mean and std, as a run records them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from stillroom.config import DistillModels, Recipe
from stillroom.data import DataSet
from stillroom.defaults import is_slow_in_bf16
from stillroom.engine.run_folder import RunFolder
from stillroom.models.batch_norm import bn_momentum_of
from stillroom.models.student_wrapper import unwrapped
from stillroom.resolve_model import is_run
from stillroom.runtime.device import Machine
from stillroom.runtime.reporters import Reporter


def with_run_precision(recipe: Recipe, machine: Machine, reporter: Reporter) -> Machine:
    """Return the machine with the precision of the run, if the recipe has ``precision=auto``.

    A run that is continued keeps its own. A new one has float32 on a processor that trains its model faster so.

    Args:
        recipe: the settings.
        machine: with the precision that is automatic here.
        reporter: told if the two differ.
    """
    run = RunFolder(Path(recipe.run.runs) / recipe.run_name)
    if recipe.run.precision != "auto":
        return machine
    trained = recipe.models.student if isinstance(recipe.models, DistillModels) else recipe.models.model
    if machine.device.type == "cpu" and is_slow_in_bf16(trained):
        machine = replace(machine, precision="32")
    if not is_run(run.path):
        return machine
    there = run.config().get("precision")
    if there not in ("32", "bf16") or there == machine.precision:
        return machine
    reporter.say(
        f"note: this run was started with precision={there} and continues with it; the automatic choice here is "
        f"{machine.precision}"
    )
    return replace(machine, precision=there)


def resolved_settings(recipe: Recipe, data: DataSet, student: nn.Module, machine: Machine) -> dict[str, Any]:
    """All settings of a run, with the automatic ones resolved.

    Args:
        recipe: the settings as given.
        data: with the run's augmentation and normalisation.
        student: the model in the form that is trained.
        machine: with the run's precision.
    """
    settings = (
        recipe.flat()
        | asdict(data.augment)
        | {"mean": [float(value) for value in data.mean], "std": [float(value) for value in data.std]}
    )
    settings["precision"] = machine.precision
    settings["source"] = data.train.kind
    _, height, width = data.input_shape
    settings["image_size"] = height if height == width else recipe.data.image_size
    if recipe.optim.bn_momentum is None:
        settings["bn_momentum"] = bn_momentum_of(unwrapped(student))
    return settings
