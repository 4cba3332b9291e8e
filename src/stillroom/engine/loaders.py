"""The batches of a run: every process gets its share of each."""

from __future__ import annotations

from typing import TypedDict

import torch

from stillroom.config import Recipe
from stillroom.data import DataSet, MemoryLoader
from stillroom.errors import InputError
from stillroom.runtime.device import Machine


class Place(TypedDict):
    """What both loaders share."""

    device: torch.device
    channels_last: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rank: int
    world_size: int


def make_loaders(data: DataSet, recipe: Recipe, machine: Machine, *, strong: bool) -> tuple[MemoryLoader, MemoryLoader]:
    """The training loader with augmentation, and a strong view if asked for, and the validation loader without."""
    run = recipe.run
    place: Place = {
        "device": machine.device, "channels_last": run.channels_last, "mean": data.mean, "std": data.std,
        "rank": machine.rank, "world_size": machine.world_size,
    }  # fmt: skip
    train = MemoryLoader(
        data.train,
        batch_size=run.batch_size,
        augment=data.augment,
        shuffle=True,
        seed=run.seed,
        strong=strong,
        **place,
    )
    size = val_batch(len(data.val), run.batch_size, machine)
    return train, MemoryLoader(data.val, batch_size=size, shuffle=False, **place)


def val_batch(val_images: int, batch_size: int, machine: Machine) -> int:
    """The batch size of a validation pass: large, for nothing is kept for a backward pass.

    Args:
        val_images: number of validation images.
        batch_size: of training, over all processes.
        machine: says how many processes there are.

    Raises:
        InputError: there are fewer images than processes.
    """
    if val_images < machine.world_size:
        raise InputError(
            f"{val_images} validation images for {machine.world_size} processes: use at most {val_images} processes"
        )
    return max(batch_size, 256, machine.world_size)
