"""Refuse validation images that the teacher, or the model a run starts from, was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stillroom.config import DataOptions, Recipe, TrainModel
from stillroom.data import DataSet
from stillroom.engine.run_folder import RunFolder
from stillroom.engine.sample_hashes import Hashes, seen_by
from stillroom.errors import InputError
from stillroom.resolve_model import is_run

Earlier = Mapping[str, RunFolder]  # by role: model, teacher or student


def earlier_runs(recipe: Recipe, teacher: object = None, student: object = None) -> Earlier:
    """Return the run folders that a recipe takes weights from, by role.

    Args:
        recipe: the settings.
        teacher: the module that replaces the recipe's teacher, or None.
        student: the module that replaces the student, or the model of a training run, or None.
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


def refuse_leak(earlier: Earlier, data: DataSet, options: DataOptions) -> None:
    """Refuse validation images that an earlier run was trained on.

    With ``hold_out`` they are training images, and a teacher may have been trained on them: the student learns from its
    predictions on the other images only.

    Validation images that the run itself trains on do not count; a note names them
    (:func:`stillroom.prepare.start_notes.data_notes`).

    Args:
        earlier: from :func:`earlier_runs`.
        data: the images of the run.
        options: the run's settings of the data.

    Raises:
        InputError: with the counts and the fix.
    """
    own = np.concatenate([data.train.content().numpy(), np.array(sorted(data.repeated), dtype=np.int64)])
    for role, run in earlier.items():
        count = count_among(data, seen_by(run), but_not=own)
        if not count or (role == "teacher" and options.hold_out is not None):
            continue
        raise InputError(
            f"{role}={run.path}: {count:,} of the {len(data.val):,} validation images are among those it was trained "
            f"on, and every accuracy would be too high; {_remedy(run, options)}"
        )


def _remedy(run: RunFolder, options: DataOptions) -> str:
    """What to do about validation images that an earlier run was trained on."""
    if options.hold_out is not None:
        return "leave hold_out out, or start from weights that have not seen these images"
    there = run.config().get("val_fraction", options.val_fraction)
    fix = f"give val_fraction={there}, as it had, or" if there != options.val_fraction else "give"
    return f"{fix} both runs one folder with train/ and val/"


def count_among(data: DataSet, seen: Hashes | None, but_not: Hashes | None = None) -> int:
    """The number of validation images among given hashes.

    Args:
        data: the images of the run.
        seen: hashes of image contents; None counts as none.
        but_not: hashes to leave out.
    """
    if seen is None:
        return 0
    val = data.val.content().numpy()
    found = np.isin(val, seen)
    return int((found if but_not is None else found & ~np.isin(val, but_not)).sum())
