"""Images for early stopping: a part of the training images is held out of training to judge the epochs."""

from __future__ import annotations

from dataclasses import replace

from stillroom.config import Recipe
from stillroom.data import DataSet
from stillroom.data.source import Source
from stillroom.data.split_off import split_off


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
    kept, held_out = split_off(data.train, recipe.run.stop_fraction, 1, f"patience={recipe.run.patience}")
    return replace(data, train=kept), held_out
