"""Few-shot accuracy: episodes of a few labelled images a class, classified by the nearest class mean.

Features are scaled to length 1, as in "SimpleShot" (Wang et al., 2019). Every network gets the same episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

WAYS, SHOTS, QUERIES = 5, (1, 5), 15
EPISODES = 600
EPISODES_OF_ALL = 100  # with all classes an episode has many images
NORMAL = 1.96  # of a 95 % interval


@dataclass(frozen=True)
class FewShot:
    """The result of some episodes.

    Attributes:
        accuracy: mean over the episodes, in percent.
        interval: half of its 95 % interval, in points.
        episodes: their number.
    """

    accuracy: float
    interval: float
    episodes: int


def few_shot(features: Tensor, labels: Tensor, ways: int, shots: int, episodes: int, seed: int) -> FewShot | None:
    """The accuracy of the nearest class mean over random episodes.

    Args:
        features: (N, D), float32.
        labels: (N,).
        ways: classes in an episode; 0 takes all that have enough images.
        shots: labelled images of each class in an episode.
        episodes: two or more.
        seed: with the number of an episode it decides its classes and images.

    Returns:
        None where fewer than two classes, or fewer than ``ways``, have more images than ``shots``.
    """
    rows = [found for label in torch.unique(labels) if len(found := (labels == label).nonzero().flatten()) > shots]
    ways = ways or len(rows)
    if len(rows) < max(ways, 2):
        return None
    queries = min(QUERIES, min(map(len, rows)) - shots)
    by_class = [found.numpy() for found in rows]
    unit = F.normalize(features.float())
    scores = [_episode(unit, _drawn(by_class, ways, shots + queries, seed, place), shots) for place in range(episodes)]
    return FewShot(fmean(scores), NORMAL * stdev(scores) / episodes**0.5, episodes)


def _drawn(by_class: Sequence[NDArray[np.int64]], ways: int, images: int, seed: int, place: int) -> Tensor:
    """The images of one episode, (ways, images): places in the set."""
    random = np.random.default_rng((seed, ways, images, place))
    chosen = random.choice(len(by_class), ways, replace=False)
    return torch.from_numpy(np.stack([random.choice(by_class[c], images, replace=False) for c in chosen]))


def _episode(unit: Tensor, places: Tensor, shots: int) -> float:
    """The accuracy of one episode in percent."""
    means = unit[places[:, :shots]].mean(1)
    queries = unit[places[:, shots:].flatten()]
    found = torch.cdist(queries, means).argmin(1)
    of = torch.arange(len(means)).repeat_interleave(places.shape[1] - shots)
    return 100 * float((found == of).double().mean())
