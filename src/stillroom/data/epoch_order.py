"""Epoch order: which images an epoch shows, how often, and in which order, as a function of (seed, epoch, ids)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillroom.data.random_table import Purpose, random_rows, random_table, sample_keys


@dataclass(frozen=True, slots=True)
class EpochOrder:
    """The images of one epoch, one row for each position.

    Attributes:
        places: int64 (N,), indices into the source.
        keys: int64 (N,), from which the random numbers of each image's view follow: the sample id, or another key for
            each further occurrence in the epoch (:func:`stillroom.data.random_table.sample_keys`).
    """

    places: Tensor
    keys: Tensor


def source_order(ids: Tensor) -> EpochOrder:
    """Every image once, in the order of the source.

    Args:
        ids: int64 (N,), the sample ids.
    """
    return EpochOrder(torch.arange(len(ids)), ids)


def shuffled_order(ids: Tensor, seed: int, epoch: int) -> EpochOrder:
    """Every image once, in random order.

    Args:
        ids: int64 (N,) on the CPU, the sample ids.
        seed: >= 0.
        epoch: >= 0.
    """
    return _shuffled(torch.arange(len(ids)), ids, seed, epoch)


def balanced_order(labels: Tensor, ids: Tensor, seed: int, epoch: int) -> EpochOrder:
    """Every class equally often, in random order; as many positions as there are images.

    Where the images cannot be divided equally, some classes have one position more, others in each epoch. A class with
    more images than positions shows a random part of them. One with fewer shows all of them equally often, but for one
    occurrence. Each image without a label is shown once.

    Args:
        labels: int64 (N,) on the CPU; -1 for an image without a label.
        ids: int64 (N,) on the CPU, the sample ids.
        seed: >= 0.
        epoch: >= 0.
    """
    drawn = random_rows(seed, epoch, Purpose.CHOICE, ids, 1)[:, 0]
    by_class = np.lexsort((drawn, labels.numpy()))
    known = by_class[int((labels < 0).sum()) :]
    classes, starts, counts = np.unique(labels.numpy()[known], return_index=True, return_counts=True)
    quotas = _quotas(classes, len(known), seed, epoch)
    # The positions of a class count through its images, which are in random order, again and again.
    number = np.arange(len(known)) - np.repeat(quotas.cumsum() - quotas, quotas)
    size = np.repeat(counts, quotas)
    chosen = known[np.repeat(starts, quotas) + number % size]
    unknown = np.flatnonzero(labels.numpy() < 0)
    places = torch.from_numpy(np.concatenate([chosen, unknown]))
    occurrences = torch.from_numpy(np.concatenate([number // size, np.zeros(len(unknown), dtype=np.int64)]))
    return _shuffled(places, sample_keys(ids[places], occurrences), seed, epoch)


def _quotas(classes: NDArray[np.int64], count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """How many of ``count`` positions each class gets."""
    each, rest = divmod(count, max(len(classes), 1))
    drawn = random_table(seed, epoch, Purpose.CLASS_CHOICE, int(classes.max(initial=-1)) + 1, 1)[classes, 0]
    quotas = np.full(len(classes), each)
    quotas[np.argsort(drawn, kind="stable")[:rest]] += 1
    return quotas


def _shuffled(places: Tensor, keys: Tensor, seed: int, epoch: int) -> EpochOrder:
    drawn = random_rows(seed, epoch, Purpose.ORDER, keys, 1)[:, 0]
    order = torch.from_numpy(np.argsort(drawn, kind="stable"))
    return EpochOrder(places[order], keys[order])
