"""Data loaders of a run for training and validation; each process loads its part of every batch."""

from __future__ import annotations

from typing import TypedDict

import torch

from stillroom.config import Recipe
from stillroom.data import DataSet, Loader
from stillroom.data.file_feed import worker_count
from stillroom.data.source import Source
from stillroom.engine.accumulation import OptimizerSteps, part_size
from stillroom.errors import InputError
from stillroom.input_format import InputFormat
from stillroom.runtime.device import Machine


class LoaderOptions(TypedDict):
    """Options of all loaders."""

    device: torch.device
    channels_last: bool
    input_format: InputFormat
    rank: int
    world_size: int
    workers: int


def make_loaders(data: DataSet, recipe: Recipe, machine: Machine, *, strong: bool) -> tuple[OptimizerSteps, Loader]:
    """Make the training steps with augmentation, and a strong view if requested, and the validation loader."""
    run, options = recipe.run, _options(data, recipe, machine)
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


def stop_loader(images: Source | None, data: DataSet, recipe: Recipe, machine: Machine) -> Loader | None:
    """Make the loader of the images that are held out of training; None where there are none."""
    if images is None:
        return None
    size = val_batch(len(images), recipe.run.batch_size, machine, "held-out training images")
    return Loader(images, batch_size=size, shuffle=False, **_options(data, recipe, machine))


def _options(data: DataSet, recipe: Recipe, machine: Machine) -> LoaderOptions:
    return {
        "device": machine.device, "channels_last": recipe.run.channels_last, "input_format": data.input_format,
        "rank": machine.rank, "world_size": machine.world_size,
        "workers": worker_count(recipe.data.workers),
    }  # fmt: skip


def val_batch(images: int, batch_size: int, machine: Machine, what: str = "validation images") -> int:
    """The batch size of validation: at least 256, because a forward pass alone needs little memory.

    Args:
        images: their number.
        batch_size: of training, over all processes.
        machine: holds the number of processes.
        what: the images are, for the message.

    Raises:
        InputError: there are fewer images than processes.
    """
    if images < machine.world_size:
        raise InputError(f"{images} {what} for {machine.world_size} processes: use at most {images} processes")
    return max(batch_size, 256, machine.world_size)


def labelled_among_first(loader: Loader, epoch: int, seen: int) -> int:
    """The number of images whose main label is known among the first ``seen`` of an epoch, over all processes."""
    return int((loader.main_labels(epoch)[:seen] >= 0).sum())
