"""From a finished run back to its images, its student and its teacher, for what needs pixels or a network again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stillroom.config import VIEW, DataOptions, DistillModels, OptimOptions, Recipe, RunOptions, TeacherOptions
from stillroom.data import DataSet
from stillroom.engine.resume_check import contents_of
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.prepare.build_teacher import build_teacher
from stillroom.prepare.load_dataset import load_dataset, with_options
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.run_identity import data_fingerprints
from stillroom.resolve_model import Fit, build, is_run
from stillroom.teachers.adapted_network import as_network
from stillroom.teachers.teacher_kind import teacher_kind


def dataset_of(run: RunFolder) -> DataSet:
    """The images as a run saw them; the set loaded last is kept, so that the runs of one comparison load it once.

    Raises:
        InputError: they cannot be loaded, or are not those of the run any more.
    """
    config = run.config()
    known = _settings(config, DataOptions)
    asked = DataOptions(**known)
    # Lists become tuples: the options are the key of a cache.
    kept: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
    loaded_as = DataOptions(**{name: value for name, value in kept.items() if name not in VIEW})
    loaded, fingerprints = _loaded(loaded_as, tuple(config["classes"]) if asked.labels == "none" else None)
    data = with_options(loaded, asked, "")
    found = {
        "classes": list(data.train.classes), "image_shape": list(data.input_shape),
        "train_images": len(data.train), "val_images": len(data.val),
    }  # fmt: skip
    for name, value in found.items():
        if config.get(name, value) != value:
            raise InputError(
                f"{run.path}: the images of data={asked.data} have changed since this run ({name} differs); "
                "bring back those it was trained on, or train it again"
            )
    if contents_of(config) not in (None, fingerprints):
        raise InputError(
            f"{run.path}: the images or labels of data={asked.data} have changed since this run; bring back those it "
            "was trained on, or train it again"
        )
    return data


def named_set_of(run: RunFolder) -> DataSet | None:
    """The named set that a run was trained on, without the run's settings; None where the images differ.

    Args:
        run: with a named set's name as its data.
    """
    config = run.config()
    try:
        data, fingerprints = _loaded(DataOptions(data=str(config["data"]), root=str(config["root"])))
    except InputError:
        return None
    return data if fingerprints == contents_of(config) else None


@lru_cache(maxsize=1)
def _loaded(options: DataOptions, classes: tuple[str, ...] | None = None) -> tuple[DataSet, dict[str, str]]:
    """Images and their fingerprints."""
    data = load_dataset(options, classes=classes)
    return data, data_fingerprints(data)


def student_of(run: RunFolder, data: DataSet) -> nn.Module:
    """A finished run's student, or the model of a training run, in evaluation mode on the CPU.

    Args:
        run: the run.
        data: from :func:`dataset_of`.

    Raises:
        InputError: the run is not finished, or its model cannot be built from its name.
    """
    with torch.random.fork_rng(devices=[]):
        return build("student", str(run.path), Fit.of(data), None, pretrained=False, trust=run.trust).eval()


def teacher_of(run: RunFolder, data: DataSet) -> nn.Module | None:
    """A run's teacher as a network that takes images as the student does; None for a run without one.

    It is in evaluation mode on the CPU.

    Args:
        run: the run.
        data: from :func:`dataset_of`.

    Raises:
        InputError: the teacher cannot be brought back, or has other weights than it had in the run.
    """
    config = run.config()
    if not config.get("teacher"):
        return None
    folder = teacher_run_of(run)
    name = config["teacher"] if folder is None else str(folder.path)
    if folder is None and _is_path(name):
        raise InputError(f"{run.path}: teacher={name} is not there any more; put its run folder beside this run's")
    models = DistillModels(**_settings(config, DistillModels) | {"teacher": name})
    options = TeacherOptions(**_settings(config, TeacherOptions))
    recipe = Recipe(
        models=models, teacher=options, data=DataOptions(**_settings(config, DataOptions)), optim=OptimOptions(),
        run=RunOptions(),
    )  # fmt: skip
    if teacher_kind(name) != "network":
        raise InputError(f"{run.path}: teacher={name} is no PyTorch network")
    with torch.random.fork_rng(devices=[]):
        teacher = build_teacher(recipe, Inputs(trust=run.trust.inside(run.path)), data)
    if teacher.weights != config["teacher_weights"]:
        raise InputError(f"{run.path}: teacher={name} has other weights now than in this run; bring back the old ones")
    return as_network(teacher, data.input_format)


def _settings(config: Mapping[str, Any], group: type[Any]) -> dict[str, Any]:
    """The settings of one group in a run's configuration."""
    return {field.name: config[field.name] for field in dataclasses.fields(group) if field.name in config}


def teacher_run_of(run: RunFolder) -> RunFolder | None:
    """The run folder of a run's teacher: where the run found it, or beside the run if both were moved.

    None where there is no teacher or it came from somewhere else.
    """
    name = run.config().get("teacher")
    if not name:
        return None
    places = [Path(name), *([run.path.parent / Path(name).name] if _is_path(name) else [])]
    return next((RunFolder(place, run.trust) for place in places if is_run(place)), None)


def _is_path(name: str) -> bool:
    """Whether a teacher's name is a folder's, there or not, rather than a model's."""
    return "/" in name and ":" not in name
