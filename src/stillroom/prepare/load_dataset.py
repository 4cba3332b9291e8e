"""Load the data set that a recipe names, with the recipe's image size, augmentation and normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from stillroom.config import DataOptions, DistillModels, Recipe, TrainModel
from stillroom.data import DataSet, load_data
from stillroom.data.named_sets import NAMED_SETS
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.models import PRETRAINED_NAMES, build_model, published_input, without_weights
from stillroom.prepare.teacher_entries import teacher_entries
from stillroom.resolve_model import is_run


def with_image_size(recipe: Recipe) -> Recipe:
    """Return the recipe with its sizes filled in, where it does not set them.

    The image size is that of its teacher's run, or of its model's run. Images are stored at the largest size at which
    a network takes them.
    """
    models, data = recipe.models, recipe.data
    start = models.model if isinstance(models, TrainModel) else models.teacher
    run = RunFolder(Path(start))
    if data.image_size is None and run.finished:
        data = replace(data, image_size=run.config().get("image_size"))
    if data.view_size is None and data.image_size is not None and isinstance(models, DistillModels):
        largest = max(teacher_sizes(recipe), default=0)
        data = replace(data, view_size=largest if largest > data.image_size else None)
    return replace(recipe, data=data)


def teacher_sizes(recipe: Recipe) -> list[int]:
    """The sides at which the teachers take images, where their settings, runs or published weights say so."""
    sides = []
    for entry in teacher_entries(recipe)[0]:
        if entry.image_size is not None:
            sides.append(entry.image_size)
        elif is_run(entry.teacher):
            sides.append(max(RunFolder(Path(entry.teacher)).config()["image_shape"][1:]))
        elif entry.pretrained or entry.checkpoint is not None or entry.teacher in PRETRAINED_NAMES:
            with suppress(Exception), torch.device("meta"):  # a name that cannot be built is refused later
                found = published_input(entry.teacher, build_model(without_weights(entry.teacher), num_classes=2))
                sides += [] if found is None or found.size is None else [max(found.size)]
    return sides


def load_dataset(options: DataOptions, copies: int | None = None, classes: Sequence[str] | None = None) -> DataSet:
    """Load the images that the options name; ``copies`` and ``classes`` as for :func:`stillroom.data.load_data`."""
    return load_data(
        options.data,
        root=options.root,
        image_size=options.image_size,
        view_size=options.view_size,
        class_depth=options.class_depth,
        first_classes=options.first_classes,
        per_class=options.per_class,
        val_fraction=options.val_fraction,
        skip_broken=options.skip_broken,
        copies=copies,
        labels=options.labels,
        classes=classes,
    )


def known_classes(recipe: Recipe) -> list[str] | None:
    """The classes of the run that the teacher comes from; None without one."""
    run = RunFolder(Path(recipe.models.teacher)) if isinstance(recipe.models, DistillModels) else None
    return run.config().get("classes") if run is not None and run.finished else None


def with_options(data: DataSet, options: DataOptions, teacher: str) -> DataSet:
    """Return the data set with the augmentation and normalisation of the options.

    Without ``mean`` and ``std``, the normalisation of the teacher's run is used, if the teacher is a run folder.

    Raises:
        InputError: ``mean`` and ``std`` do not have one number for each channel.
    """
    given = {name: getattr(options, name) for name in ("pad", "flip", "rotate", "min_scale")}
    data = replace(data, augment=replace(data.augment, **{k: v for k, v in given.items() if v is not None}))
    mean, std = options.mean, options.std
    if mean is None and teacher and is_run(teacher):
        config = RunFolder(Path(teacher)).config()
        mean, std = config["mean"], config["std"]
    if mean is None or std is None:
        return data
    channels = data.train.images.shape[1]
    if len(mean) != channels or len(std) != channels:
        raise InputError(f"mean={mean}, std={std}: the images have {channels} channels, give {channels} numbers each")
    return replace(data, mean=tuple(mean), std=tuple(std))


def with_published_input(
    data: DataSet, options: DataOptions, name: str, model: nn.Module, *, checkpoint: str | None, pretrained: bool
) -> DataSet:
    """Return the data set with the mean and std of a trained model's published weights, where it starts from weights.

    Given ``mean`` and ``std`` win. The published ones of a named data set yield only to ``pretrained``, because a
    checkpoint may come from that data set.

    Args:
        data: the images.
        options: of the recipe.
        name: of the model that is trained.
        model: that model.
        checkpoint: file of its weights, or None.
        pretrained: whether it has the published weights.
    """
    if options.mean is not None or not (pretrained or (checkpoint is not None and options.data not in NAMED_SETS)):
        return data
    wanted = None if is_run(name) else published_input(name, model)
    if wanted is None or (wanted.mean, wanted.std) == (data.mean, data.std):
        return data
    note = (
        f"mean and std are those of the published weights of {name} ({replace(wanted, size=None)}); mean= and std= set "
        "others"
    )
    return replace(data, mean=wanted.mean, std=wanted.std, notes=(*data.notes, note))
