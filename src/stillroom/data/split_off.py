"""Split a fraction of the training images off, class by class, for the settings that hold images out of training."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from stillroom.data.dataset import DataSet
from stillroom.data.memory_limit import check_memory, copies_here
from stillroom.data.source import Source
from stillroom.data.validation_split import stratified_part
from stillroom.errors import InputError

HOLD_OUT_SEED = 2  # another choice than those of a validation split (0) and of early stopping (1)


def split_off(
    train: Source, fraction: float, seed: int, setting: str, copies: int | None = None
) -> tuple[Source, Source]:
    """Split off a fraction of the images of each class.

    Which images are taken depends on their content and labels, the fraction and the seed only. Images without a label
    are taken only where no training image has one.

    Args:
        train: training images, hashed.
        fraction: in (0, 1).
        seed: of the choice, for :func:`stillroom.data.validation_split.stratified_part`.
        setting: the setting that asks for it with its value, for messages: "patience=3".
        copies: how many processes of this machine hold the images; None for those of this run.

    Returns:
        The images that remain, and those that are split off.

    Raises:
        InputError: too few images, or too little memory.
    """
    chosen = torch.from_numpy(stratified_part(train.labels.numpy(), train.content().numpy(), fraction, seed))
    if not chosen.any():
        raise InputError(
            f"{setting}: no class has two training images, one to train on and one to judge by; "
            f"leave {setting.partition('=')[0]} out"
        )
    if train.kind == "memory":  # they are copied
        what = f"{setting}: copies of {len(train):,} training images"
        check_memory(len(train) * math.prod(train.shape), what, copies_here() if copies is None else copies)
    kept, off = (train.at(torch.from_numpy(np.flatnonzero(side))) for side in (~chosen, chosen))
    return kept, off


def judged_by_held_out(data: DataSet, fraction: float, copies: int | None) -> DataSet:
    """The data set with a part of its training images in the place of its validation images.

    The arguments and errors are those of :func:`split_off`; the setting is ``hold_out``.
    """
    kept, held_out = split_off(data.train.hashed(), fraction, HOLD_OUT_SEED, f"hold_out={fraction:g}", copies)
    both = np.intersect1d(kept.content().numpy(), held_out.content().numpy())
    return replace(data, train=kept, val=held_out, repeated=frozenset(both.tolist()))
