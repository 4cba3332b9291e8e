"""Images for early stopping: a part of the training images is held out of training to judge the epochs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from stillroom.config import Recipe
from stillroom.data import DataSet
from stillroom.data.memory_limit import check_memory, copies_here
from stillroom.data.source import Source
from stillroom.data.validation_split import stratified_part
from stillroom.errors import InputError


def hold_out(recipe: Recipe, data: DataSet) -> tuple[DataSet, Source | None]:
    """Take the images that judge the epochs out of the training images, if the settings have a ``patience``.

    Which images are taken depends on their content and labels and on ``stop_fraction`` only, so that all seeds and
    methods are judged by the same. Images without a label are taken only where no training image has one.

    Args:
        recipe: the settings.
        data: the images, each hashed.

    Returns:
        The data set with the other training images, and the images that are held out.

    Raises:
        InputError: too few images, or too little memory.
    """
    if recipe.run.patience is None:
        return data, None
    train, fraction = data.train, recipe.run.stop_fraction
    chosen = torch.from_numpy(stratified_part(train.labels.numpy(), train.content().numpy(), fraction))
    if not chosen.any():
        raise InputError(
            f"patience={recipe.run.patience}: no class has two training images, one to train on and one to judge by; "
            "leave patience out"
        )
    if train.kind == "memory":  # they are copied
        what = f"patience={recipe.run.patience}: copies of {len(train):,} training images"
        check_memory(len(train) * math.prod(train.shape), what, copies_here())
    kept, held_out = (train.at(torch.from_numpy(np.flatnonzero(side))) for side in (~chosen, chosen))
    return replace(data, train=kept), held_out
