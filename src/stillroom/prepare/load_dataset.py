"""Load the data set that a recipe names, with the recipe's image size, augmentation and normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stillroom.config import DataOptions, DistillModels, Recipe, TrainModel
from stillroom.data import DataSet, load_data
from stillroom.data.augment import Augment
from stillroom.data.load_data import what_is_learned
from stillroom.data.named_sets import NAMED_SETS
from stillroom.data.split_off import judged_by_held_out
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.models import (
    PRETRAINED_NAMES,
    build_model,
    is_published,
    published_input,
    without_weights,
)
from stillroom.prepare.known_classes import known_classes
from stillroom.prepare.teacher_entries import teacher_entries
from stillroom.resolve_model import is_run
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import from_all
from stillroom.trust import NOTHING, Trust


def with_task(recipe: Recipe, data: DataSet | None) -> Recipe:
    """Return the recipe with ``task`` filled in, where it is automatic.

    Args:
        recipe: the settings.
        data: the images that are used instead of those that the recipe names, or None.
    """
    task = what_is_learned(recipe.data.data, recipe.data.task) if data is None else data.task
    return replace(recipe, data=replace(recipe.data, task=task))


def with_image_size(recipe: Recipe, trust: Trust = NOTHING) -> Recipe:
    """Return the recipe with its sizes filled in, where it does not set them.

    The image size is that of its teacher's run, or of its model's run. Images are stored at the largest size at which
    a network takes them.

    Args:
        recipe: the settings.
        trust: the permissions for the models that it names.
    """
    models, data = recipe.models, recipe.data
    start = models.model if isinstance(models, TrainModel) else models.teacher
    run = RunFolder(Path(start))
    if data.image_size is None and run.finished:
        data = replace(data, image_size=run.config().get("image_size"))
    if data.view_size is None and data.image_size is not None and isinstance(models, DistillModels):
        largest = max(teacher_sizes(recipe, trust), default=0)
        data = replace(data, view_size=largest if largest > data.image_size else None)
    return replace(recipe, data=data)


def with_recorded_source(recipe: Recipe) -> Recipe:
    """Return the recipe with ``source`` as the run that it continues has it, where it is automatic."""
    there = RunFolder(Path(recipe.run.runs) / recipe.run_name)
    if recipe.data.source != "auto" or not is_run(there.path):
        return recipe
    kind = there.config().get("source")
    return replace(recipe, data=replace(recipe.data, source=kind)) if kind in ("memory", "files") else recipe


def load_in_turn(
    recipe: Recipe, machine: Machine, trust: Trust, say: Callable[[str], object] = lambda _: None
) -> tuple[Recipe, DataSet]:
    """Load the images of a recipe in process 0 before the others: it may fill the cache, and it chooses the source.

    The arguments and the result are those of :func:`load_for_training`.
    """
    if machine.world_size == 1:
        return load_for_training(recipe, trust, say)
    if not machine.first:
        kind = from_all(None)[0]
        return load_for_training(replace(recipe, data=replace(recipe.data, source=kind)), trust)
    kind = recipe.data.source
    try:
        found, data = load_for_training(recipe, trust, say)
        kind = data.train.kind
    finally:
        from_all(kind)
    return found, data


def teacher_sizes(recipe: Recipe, trust: Trust = NOTHING) -> list[int]:
    """The sides at which the teachers take images, where their settings, runs or published weights say so."""
    sides = []
    for entry in teacher_entries(recipe)[0]:
        if entry.image_size is not None:
            sides.append(entry.image_size)
        elif is_run(entry.teacher):
            config = RunFolder(Path(entry.teacher)).config()
            if config.get("task") != "detection":  # a detector takes images of any size
                sides.append(max(config["image_shape"][1:]))
        elif entry.pretrained or entry.checkpoint is not None or entry.teacher in PRETRAINED_NAMES:
            side = _published_side(entry.teacher, trust)
            sides += [] if side is None else [side]
    return sides


def _published_side(name: str, trust: Trust) -> int | None:
    """The larger side at which a model's published weights take images; None where it is not known."""
    if not is_published(name):
        return None
    with suppress(Exception), torch.device("meta"):  # a name that cannot be built is refused later
        found = published_input(name, build_model(without_weights(name), num_classes=2, origin=trust.of(name)))
        return None if found is None or found.size is None else max(found.size)
    return None


def load_for_training(
    recipe: Recipe, trust: Trust, say: Callable[[str], object] = lambda _: None
) -> tuple[Recipe, DataSet]:
    """Load the images of a recipe.

    Where ``train`` starts from published weights and no image size is set, images that differ in size or are larger get
    the size of these weights. Images of one size that are smaller keep it, for they may be many. A note says so.

    Args:
        recipe: the settings.
        trust: the permissions for the models that it names.
        say: told how far a first look at many files is.

    Returns:
        The recipe with the image size that the images got, and the images.

    Raises:
        InputError: the images cannot be used.
    """
    models, options = recipe.models, recipe.data
    name, side = "", None
    if isinstance(models, TrainModel) and options.image_size is None:
        name = models.model
        if _follows_published(name, models.checkpoint, models.pretrained, options):
            side = _published_side(name, trust)
    data = load_dataset(options, classes=known_classes(recipe, trust), default_size=side, say=say)
    if side is None:
        return recipe, data
    _, height, width = data.train.shape
    trained = f"{side}x{side} pixels, at which the published weights of {name} were trained"
    if (height, width) == (side, side):
        recipe = replace(recipe, data=replace(options, image_size=side))
        note = f"the images are taken at {trained}; image_size= sets another size"
    else:
        note = f"the images have {width}x{height} pixels and not {trained}; image_size={side} resizes them"
    return recipe, replace(data, notes=(*data.notes, note))


def _follows_published(name: str, checkpoint: str | None, pretrained: bool, options: DataOptions) -> bool:
    """Whether a model starts from weights that take images as its published ones.

    A checkpoint may come from the named data set that is used, which has its own published mean and std.
    """
    if checkpoint is not None:
        return options.data not in NAMED_SETS
    return pretrained or name in PRETRAINED_NAMES


def load_dataset(
    options: DataOptions,
    copies: int | None = None,
    classes: Sequence[str] | None = None,
    default_size: int | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> DataSet:
    """Load the images that the options name; the other arguments are those of :func:`stillroom.data.load_data`.

    With ``hold_out``, a part of the training images takes the place of the validation images.
    """
    data = load_data(
        options.data,
        root=options.root,
        image_size=options.image_size,
        view_size=options.view_size,
        class_depth=options.class_depth,
        only_classes=options.only_classes,
        first_classes=options.first_classes,
        per_class=options.per_class,
        val_fraction=options.val_fraction,
        skip_broken=options.skip_broken,
        copies=copies,
        labels=options.labels,
        classes=classes,
        default_size=default_size,
        source=options.source,
        crop_fraction=options.crop_fraction,
        scaled_decoding=options.scaled_decoding,
        task=options.task,
        max_size=options.max_size,
        say=say,
    )
    return data if options.hold_out is None else judged_by_held_out(data, options.hold_out, copies)


def loading_options(options: DataOptions) -> DataOptions:
    """The options with defaults for those that are applied to loaded images, such as augmentation.

    Options that are equal in this form load the same images.
    """
    later = {known.name for known in fields(Augment)} | {"mean", "std", "workers", "sampling"}
    defaults: dict[str, Any] = {known.name: known.default for known in fields(options) if known.name in later}
    return replace(options, **defaults)


def with_options(data: DataSet, options: DataOptions, teacher: str) -> DataSet:
    """Return the data set with the augmentation and normalisation of the options.

    Without ``mean`` and ``std``, the normalisation of the teacher's run is used, if the teacher is a run folder.

    Raises:
        InputError: ``mean`` and ``std`` do not have one number for each channel.
    """
    given = {known.name: getattr(options, known.name) for known in fields(Augment)}
    data = replace(data, augment=replace(data.augment, **{k: v for k, v in given.items() if v is not None}))
    mean, std = options.mean, options.std
    if mean is None and teacher and is_run(teacher):
        config = RunFolder(Path(teacher)).config()
        mean, std = config["mean"], config["std"]
    if mean is None or std is None:
        return data
    channels = data.train.shape[0]
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
    if options.mean is not None or not _follows_published(name, checkpoint, pretrained, options):
        return data
    wanted = None if is_run(name) else published_input(name, model)
    if wanted is None or (wanted.mean, wanted.std) == (data.mean, data.std):
        return data
    note = (
        f"mean and std are those of the published weights of {name} ({replace(wanted, size=None)}); mean= and std= set "
        "others"
    )
    return replace(data, mean=wanted.mean, std=wanted.std, notes=(*data.notes, note))
