"""The classes of a student whose images have no labels, from what its teacher says."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

from stillroom.config import DistillModels, Recipe
from stillroom.data.unlabelled_folder import UNNAMED
from stillroom.engine.run_folder import RunFolder
from stillroom.models import build_model, is_published, published_classes, without_weights
from stillroom.models.build import classes_in
from stillroom.prepare.teacher_entries import gives_embeddings, teacher_entries
from stillroom.teachers.class_names import read_class_names
from stillroom.teachers.teacher_entry import TeacherEntry
from stillroom.trust import NOTHING, Trust


def known_classes(recipe: Recipe, trust: Trust = NOTHING) -> tuple[str, ...] | None:
    """The classes of a student where ``labels=none`` leaves the data without any; None where nothing says them.

    They are those of the only teacher: of its run, of the file that names them, or of its published weights. A student
    of embeddings has two classes without a name, for a classifier that is not trained.

    Args:
        recipe: the settings.
        trust: the permissions for the models that it names.
    """
    if not isinstance(recipe.models, DistillModels) or recipe.data.labels != "none":
        return None
    if gives_embeddings(recipe):
        return UNNAMED
    entry, *others = teacher_entries(recipe)[0]
    run = RunFolder(Path(entry.teacher))
    if others:
        return None
    if run.finished:
        return tuple(map(str, run.config()["classes"]))
    if entry.classes is not None:
        return read_class_names(entry.classes)
    return _classes_of_weights(entry, trust)


def _classes_of_weights(entry: TeacherEntry, trust: Trust) -> tuple[str, ...] | None:
    """The classes of published weights, downloaded or from a file of equally many classes."""
    name, origin = entry.teacher, trust.of(entry.teacher)
    if not is_published(name):
        return None
    with suppress(Exception), torch.device("meta"):  # a name that cannot be built is refused later
        spec, file = without_weights(name), entry.checkpoint
        count = None if file is None else classes_in(file, spec, 3, None, origin)
        return published_classes(name, build_model(spec, num_classes=count, origin=origin))
    return None
