"""What is known of the runs that a run begins or learns from: the images they were trained on, and their size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stillroom.config import Recipe, TrainModel
from stillroom.data import DataSet
from stillroom.engine.run_folder import RunFolder
from stillroom.engine.sample_hashes import Hashes, seen_by
from stillroom.errors import InputError
from stillroom.resolve import ModelLike, is_run

Earlier = Mapping[str, RunFolder]

SHOWN = 10  # names of images that were left out


def earlier_runs(recipe: Recipe, teacher: object = None, student: object = None) -> Earlier:
    """Return the run folders that a recipe names, by role; of weights from elsewhere nothing is known.

    Args:
        recipe: the settings.
        teacher: the module that takes the place of the recipe's teacher, or None.
        student: the same for the student, or for the model of a training run.
    """
    models = recipe.models
    if isinstance(models, TrainModel):
        named: dict[str, tuple[str, object]] = {"model": (models.model, student or models.checkpoint)}
    else:
        named = {
            "teacher": (models.teacher, teacher or models.teacher_checkpoint),
            "student": (models.student, student or models.student_checkpoint),
        }
    return {role: RunFolder(Path(name)) for role, (name, other) in named.items() if other is None and is_run(name)}


def refuse_leak(earlier: Earlier, data: DataSet, val_fraction: float) -> None:
    """Refuse validation images that a teacher, or the model a run begins with, was trained on.

    Images that the run trains on as well are copies inside the set itself, of which :func:`data_notes` tells.

    Args:
        earlier: from :func:`earlier_runs`.
        data: the images of the run.
        val_fraction: of the run.

    Raises:
        InputError: with the counts and the way out.
    """
    own = np.concatenate([data.train.content().numpy(), np.array(sorted(data.repeated), dtype=np.int64)])
    for role, run in earlier.items():
        count = _among(data, seen_by(run), but_not=own)
        if not count:
            continue
        there = run.config().get("val_fraction", val_fraction)
        fix = f"give val_fraction={there}, as it had, or" if there != val_fraction else "give"
        raise InputError(
            f"{role}={run.path}: {count:,} of the {len(data.val):,} validation images are among those it was trained "
            f"on, and every accuracy would be too high; {fix} both runs one folder with train/ and val/"
        )


def set_notes(data: DataSet, earlier: Earlier) -> list[str]:
    """What is good to know, before training begins, of the images and of what the models have seen: each a line."""
    return data_notes(data) + run_notes(earlier, data)


def evaluation_notes(model: ModelLike, data: DataSet) -> list[str]:
    """What is good to know when a model is measured on a set's validation images."""
    run = RunFolder(Path(model)) if isinstance(model, str) and is_run(model) else None
    found = set_notes(data, {} if run is None else {"model": run})
    if run is not None and (count := _among(data, seen_by(run))):
        found.append(
            f"warning: {count:,} of the {len(data.val):,} validation images are among those that {run.path} was "
            "trained on; its accuracy on others is lower"
        )
    return found


def run_notes(earlier: Earlier, data: DataSet) -> list[str]:
    """What is good to know of the earlier runs: images of another size, and no record of their images."""
    found = []
    here = list(data.train.images.shape[1:])
    for role, run in earlier.items():
        there = run.config().get("image_shape", here)
        if there != here:
            found.append(
                f"note: {role}={run.path} was trained on images of {_size(there)} and gets them at {_size(here)}; "
                "where that is not meant, set image_size"
            )
        if seen_by(run) is None:
            found.append(
                f"note: {role}={run.path} has no record of the images it was trained on; validation images may be "
                "among them"
            )
    return found


def data_notes(data: DataSet) -> list[str]:
    """What is good to know of a set, each a line."""
    found = [f"left out: {line}" for line in data.broken[:SHOWN]]
    if len(data.broken) > SHOWN:
        found.append(f"left out: {len(data.broken) - SHOWN:,} more that cannot be read")
    found += [f"note: {note}" for note in data.notes]
    if count := _among(data, data.train.content().numpy()):
        found.append(
            f"warning: {count:,} of the {len(data.val):,} validation images are training images as well, byte by "
            "byte; they make accuracies too high"
        )
    return found


def _among(data: DataSet, seen: Hashes | None, but_not: Hashes | None = None) -> int:
    """How many validation images are among those seen."""
    if seen is None:
        return 0
    val = data.val.content().numpy()
    found = np.isin(val, seen)
    return int((found if but_not is None else found & ~np.isin(val, but_not)).sum())


def _size(shape: list[int]) -> str:
    """A shape (C, H, W) in words."""
    return f"{shape[2]}x{shape[1]} pixels" + (f" in {shape[0]} channels" if shape[0] != 3 else "")
