"""Data loaders of a run for training and validation; each process loads its part of every batch."""

from __future__ import annotations

from typing import TypedDict

import torch

from stillroom.config import Recipe
from stillroom.data import DataSet, Loader
from stillroom.data.file_feed import worker_count
from stillroom.engine.accumulation import OptimizerSteps, part_size
from stillroom.errors import InputError
from stillroom.input_format import InputFormat
from stillroom.runtime.device import Machine


class LoaderOptions(TypedDict):
    """Options of both loaders."""

    device: torch.device
    channels_last: bool
    input_format: InputFormat
    rank: int
    world_size: int
    workers: int


def make_loaders(data: DataSet, recipe: Recipe, machine: Machine, *, strong: bool) -> tuple[OptimizerSteps, Loader]:
    """Make the training steps with augmentation, and a strong view if requested, and the validation loader."""
    run = recipe.run
    options: LoaderOptions = {
        "device": machine.device, "channels_last": run.channels_last, "input_format": data.input_format,
        "rank": machine.rank, "world_size": machine.world_size,
        "workers": worker_count(recipe.data.workers),
    }  # fmt: skip
    train = Loader(
        data.train,
        batch_size=part_size(run.batch_size, run.accumulate, machine.world_size),
        augment=data.augment,
        shuffle=True,
        balanced=recipe.data.sampling == "balanced",
        seed=run.seed,
        strong=strong,
        repeat_views=run.repeat_views,
        **options,
    )
    size = val_batch(len(data.val), run.batch_size, machine)
    return OptimizerSteps(train, run.accumulate), Loader(data.val, batch_size=size, shuffle=False, **options)


def val_batch(val_images: int, batch_size: int, machine: Machine) -> int:
    """The batch size of validation: at least 256, because a forward pass alone needs little memory.

    Args:
        val_images: number of validation images.
        batch_size: of training, over all processes.
        machine: holds the number of processes.

    Raises:
        InputError: there are fewer images than processes.
    """
    if val_images < machine.world_size:
        raise InputError(
            f"{val_images} validation images for {machine.world_size} processes: use at most {val_images} processes"
        )
    return max(batch_size, 256, machine.world_size)


def labelled_among_first(loader: Loader, epoch: int, seen: int) -> int:
    """The number of images whose main label is known among the first ``seen`` of an epoch, over all processes."""
    return int((loader.main_labels(epoch)[:seen] >= 0).sum())
