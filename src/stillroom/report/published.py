"""Published scores, for runs that follow a recipe exactly and use the same images, and for no others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from stillroom.config import DEFAULTS, OptimOptions, make_recipe
from stillroom.data import describe_sets
from stillroom.errors import InputError
from stillroom.methods import parse_method
from stillroom.models.batch_norm import USUAL_BN_MOMENTUM
from stillroom.recipes import PublishedRecipe, load_published, recipes_folder
from stillroom.report.discovery import FoundRun, short_name
from stillroom.restore import named_set_of
from stillroom.trust import UNKNOWN

# Training and validation images of the sets that have a name and published accuracies.
WHOLE = {"cifar100": (50_000, 10_000), "tiny-imagenet": (100_000, 10_000)}
COCO = (118_287, 5_000, 80)  # of 2017: training and validation images, classes
SHOWN = ("image_size", "max_size", "flip")
SCHEDULE = ("epochs", "patience", "batch_size", "sampling", *(field.name for field in fields(OptimOptions)))


def published_accuracies(runs: Sequence[FoundRun]) -> dict[str, float]:
    """The main score that a recipe reports for each method, in percent, by the method's label.

    It has to be the built-in set, whole and unchanged, and the recipe's models, method, schedule and augmentation.

    Args:
        runs: of one pair.
    """
    first = runs[0]
    if first.config.get("task") == "detection":
        return _average_precisions(runs)
    if not _is_whole(first.config):
        return {}
    folder = recipes_folder() / str(first.config["data"]) / f"{first.teacher_model}-{short_name(first.student)}"
    fitting = [
        (run, recipe)
        for recipe in map(load_published, sorted(folder.glob("*.yaml")))
        for run in runs
        if recipe.top1 is not None and _is_made_by(run.config, recipe)
    ]
    whole = named_set_of(first.run) if fitting else None  # this loads the images
    if whole is None:
        return {}
    return {
        run.method: recipe.top1
        for run, recipe in fitting
        if recipe.top1 is not None and _is_shown_as(run.config, recipe, asdict(whole.augment))
    }


def _average_precisions(runs: Sequence[FoundRun]) -> dict[str, float]:
    """The same for detectors on COCO, whose images lie in a folder of any name and are recognised by their numbers."""
    teacher = runs[0].teacher_model.split(":")[-1] if runs[0].config.get("teacher") else "*"  # a baseline has none
    files = recipes_folder().glob(f"coco/{teacher}-{short_name(runs[0].student)}/*.yaml")
    return {
        run.method: recipe.ap
        for recipe in map(load_published, sorted(files))
        for run in runs
        if recipe.ap is not None and _is_detector_made_by(run, recipe)
    }


def _is_detector_made_by(run: FoundRun, recipe: PublishedRecipe) -> bool:
    """Whether a detector was trained on COCO with a recipe's method and schedule, its backbone begun from ImageNet."""
    config, wanted = run.config, make_recipe("distill", recipe.settings).flat()
    checkpoint, pretrained = run.start
    numbers = (config.get("train_images"), config.get("val_images"), len(config["classes"]))
    same = (name for name in (*SCHEDULE, *SHOWN) if name != "bn_momentum")  # norms are frozen
    return (
        numbers == COCO
        and bool(pretrained)
        and not checkpoint
        and all(config.get(name) == wanted[name] for name in same)
        and _is_method(str(config.get("method", "supervised")).strip(), recipe)
    )


def _is_whole(config: Mapping[str, Any]) -> bool:
    """Whether a run's settings say that it saw a named set, in full, in its own size."""
    name = config.get("data")
    known = next((known for known in describe_sets() if known.name == name), None)
    if known is None or known.name not in WHOLE or not config.get("teacher"):
        return False
    counts = (config.get("train_images"), config.get("val_images"))
    shape = config.get("image_shape")
    return (
        counts == WHOLE[known.name]
        and shape == [3, known.size, known.size]
        and len(config["classes"]) == known.classes
        and not any(config.get(part) for part in ("only_classes", "first_classes", "per_class", "skip_broken"))
    )


def _is_made_by(config: Mapping[str, Any], recipe: PublishedRecipe) -> bool:
    """Whether a run has a recipe's method and schedule, and its student began from random weights."""
    wanted = make_recipe("distill", recipe.settings).flat()
    if config.get("student_checkpoint") or config.get("student_pretrained"):
        return False
    wanted["bn_momentum"] = wanted["bn_momentum"] or USUAL_BN_MOMENTUM  # runs record what they were built with
    # Runs of older versions do not have all settings, and did as their defaults say.
    same = all(config.get(name, DEFAULTS.get(name)) == wanted[name] for name in SCHEDULE)
    return same and _is_method(str(config.get("method", "ce")).strip(), recipe)


def _is_shown_as(config: Mapping[str, Any], recipe: PublishedRecipe, usual: Mapping[str, Any]) -> bool:
    """Whether a run augments and normalises as a recipe does, which leaves to the set what it does not name."""
    names = [name for name in ("mean", "std") if recipe.settings.get(name) is not None]
    wanted = {**usual, **{name: recipe.settings[name] for name in (*usual, *names) if name in recipe.settings}}
    # Runs of older versions do not have all settings.
    return all(config.get(name, value) == value for name, value in wanted.items())


def _is_method(text: str, recipe: PublishedRecipe) -> bool:
    """Whether a method is the recipe's, written the same or by a name that stands for the same."""
    whole = str(recipe.settings["method"]).strip()
    if text in (whole, "") or text != recipe.method:
        return text == whole
    try:
        return _form(text) == _form(whole)
    except InputError:
        return False


def _form(text: str) -> tuple[Any, ...]:
    method = parse_method(text, UNKNOWN)
    # 4 and 4.0 are one temperature.
    return (method.ce, *((term.weight, term.warmup, re.sub(r"\.0\b", "", repr(term.loss))) for term in method.terms))
