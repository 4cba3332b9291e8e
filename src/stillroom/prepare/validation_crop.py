"""Validation crop: ``evaluate`` crops images as the run of the model did, or as the published evaluation did."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from stillroom.config import Recipe, TrainModel
from stillroom.data import DataSet
from stillroom.data.file_set import FileSet
from stillroom.data.named_sets import NAMED_SETS
from stillroom.engine.run_folder import RunFolder
from stillroom.models import build_model, published_crop_fraction, without_weights
from stillroom.trust import Trust


def with_crop_of_run(recipe: Recipe) -> Recipe:
    """Return the recipe with the central crop with which the trained model's run was validated, if it sets none.

    Images that are held in memory have no such crop.
    """
    models, data = recipe.models, recipe.data
    named = NAMED_SETS.get(data.data)
    in_memory = data.source == "memory" or (named is not None and not named.has_files)
    run = RunFolder(Path(models.model)) if isinstance(models, TrainModel) else None
    if run is None or not run.finished or in_memory or data.crop_fraction is not None:
        return recipe
    config = run.config()
    if config.get("crop_fraction") in (None, 1.0):
        return recipe
    scaled = data.scaled_decoding or bool(config.get("scaled_decoding"))
    return replace(recipe, data=replace(data, crop_fraction=config["crop_fraction"], scaled_decoding=scaled))


def with_published_crop(data: DataSet, name: str, trust: Trust, say: Callable[[str], object]) -> DataSet:
    """Return the data set with the central crop of a model's published evaluation, if its images come from files.

    Args:
        data: the images, loaded without a ``crop_fraction``.
        name: of a model with published weights, as ``model=`` takes it.
        trust: the permission for it.
        say: told the crop.
    """
    val = data.val
    if not isinstance(val, FileSet) or val.framing.size is None:
        return data
    with suppress(Exception), torch.device("meta"):  # a name that cannot be built is refused later
        network = build_model(without_weights(name), num_classes=2, origin=trust.of(name))
        fraction = published_crop_fraction(name, network)
        if fraction is not None and fraction < 1:
            say(f"validation images are cropped as for the weights of {name}: crop_fraction={fraction:.4g}")
            return replace(data, val=replace(val, framing=replace(val.framing, crop_fraction=fraction)))
    return data
