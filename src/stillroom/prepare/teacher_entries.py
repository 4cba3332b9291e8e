"""Teacher entries: the teachers that the settings of a run name, each with its own settings."""

from __future__ import annotations

from stillroom.config import DistillModels, Recipe, TeacherOptions
from stillroom.errors import InputError
from stillroom.teachers.ensemble_file import Combine, read_ensemble
from stillroom.teachers.teacher_entry import TeacherEntry
from stillroom.teachers.teacher_kind import teacher_kind


def gives_embeddings(recipe: Recipe) -> bool:
    """Whether the settings say that the teacher gives embeddings, and so has no classes."""
    return recipe.teacher is not None and recipe.teacher.teacher_output == "embedding"


def teacher_entries(recipe: Recipe, *, given: bool = False) -> tuple[tuple[TeacherEntry, ...], Combine, bool]:
    """The teachers that the settings name, and how they are combined.

    Args:
        recipe: the settings of a distillation.
        given: whether a module takes the place of the name.

    Raises:
        InputError: a file of several teachers cannot be used, or a setting of one teacher is given with it.
    """
    models, options = recipe.models, recipe.teacher or TeacherOptions()
    assert isinstance(models, DistillModels)
    entry = TeacherEntry(
        teacher=models.teacher,
        image_size=options.teacher_image_size,
        mean=options.teacher_mean,
        std=options.teacher_std,
        interpolation=options.teacher_interpolation,
        checkpoint=models.teacher_checkpoint,
        pretrained=models.teacher_pretrained,
        class_map=options.class_map,
        classes=options.teacher_classes,
        output=options.teacher_output,
        unmapped=options.unmapped,
    )
    if given or teacher_kind(models.teacher) != "several":
        return (entry,), "probabilities", False
    unset = TeacherEntry(teacher=models.teacher)
    for name, value in vars(entry).items():
        if value != getattr(unset, name):
            setting = name if name in ("class_map", "unmapped") else f"teacher_{name}"
            raise InputError(f"{setting}={value}: {models.teacher} names several teachers; give {name} for each there")
    spec = read_ensemble(models.teacher)
    return spec.teachers, spec.combine, spec.confidence
