"""Data loaders of a run for training and validation; each process loads its part of every batch."""

from __future__ import annotations

from typing import TypedDict

import torch

from stillroom.config import Recipe
from stillroom.data import BatchLoader, DataSet
from stillroom.data.decoding_workers import worker_count
from stillroom.data.source import Source
from stillroom.engine.accumulation import OptimizerSteps, part_size
from stillroom.errors import InputError
from stillroom.input_format import InputFormat
from stillroom.runtime.device import Machine


class SharedOptions(TypedDict):
    """Options of all loaders."""

    device: torch.device
    channels_last: bool
    input_format: InputFormat
    rank: int
    world_size: int
    workers: int


def make_loaders(
    data: DataSet, recipe: Recipe, machine: Machine, *, strong: bool
) -> tuple[OptimizerSteps, BatchLoader]:
    """Make the training steps with augmentation, and a strong view if requested, and the validation loader."""
    run, options = recipe.run, _options(data, recipe, machine)
    train = data.train.loader(
        batch_size=part_size(run.batch_size, run.accumulate, machine.world_size),
        augment=data.augment,
        shuffle=True,
        balanced=recipe.data.sampling == "balanced",
        seed=run.seed,
        strong=strong,
        repeat_views=run.repeat_views,
        **options,
    )
    size = val_batch(data.val, run.batch_size, machine)
    return OptimizerSteps(train, run.accumulate), data.val.loader(batch_size=size, shuffle=False, **options)


def stop_loader(images: Source | None, data: DataSet, recipe: Recipe, machine: Machine) -> BatchLoader | None:
    """Make the loader of the images that are held out of training; None where there are none."""
    if images is None:
        return None
    size = val_batch(images, recipe.run.batch_size, machine, "held-out training images")
    return images.loader(batch_size=size, shuffle=False, **_options(data, recipe, machine))


def _options(data: DataSet, recipe: Recipe, machine: Machine) -> SharedOptions:
    return {
        "device": machine.device, "channels_last": recipe.run.channels_last, "input_format": data.input_format,
        "rank": machine.rank, "world_size": machine.world_size,
        "workers": worker_count(recipe.data.workers),
    }  # fmt: skip


def val_batch(images: Source, batch_size: int, machine: Machine, what: str = "validation images") -> int:
    """The batch size of validation: often larger than in training, because a forward pass alone needs little memory.

    Args:
        images: those of validation.
        batch_size: of training, over all processes.
        machine: holds the number of processes.
        what: the images are, for the message.

    Raises:
        InputError: there are fewer images than processes.
    """
    count = len(images)
    if count < machine.world_size:
        raise InputError(f"{count} {what} for {machine.world_size} processes: use at most {count} processes")
    return max(batch_size, images.least_val_batch, machine.world_size)


def labelled_among_first(loader: BatchLoader, epoch: int, seen: int) -> int:
    """The number of images whose main label is known among the first ``seen`` of an epoch, over all processes."""
    return int((loader.main_labels(epoch)[:seen] >= 0).sum())
