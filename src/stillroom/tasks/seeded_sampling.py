"""Seeded sampling: which anchors and proposals are trained on, as a function of (seed, epoch, sample id)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stillroom.data.random_table import Purpose, rows_at

_Sampler = Callable[[list[Tensor]], tuple[list[Tensor], list[Tensor]]]


def sampling_seeds(seed: int, epoch: int, ids: Tensor) -> Tensor:
    """The seeds of the anchor and proposal sampling of images.

    Args:
        seed: of the run, >= 0.
        epoch: >= 0.
        ids: int64 (B,), the sample ids.

    Returns:
        int64 (B, 2) on the CPU, one seed for the anchors and one for the proposals; each row depends on
        (seed, epoch, id) only.
    """
    places = ids.cpu().numpy()
    drawn = rows_at(seed, epoch, Purpose.REGIONS, places, np.zeros_like(places), 2)
    return torch.from_numpy((drawn * 2**53).astype(np.int64))


class SeededSampler:
    """A detector's own sampler, called for one image at a time with a random state of its own.

    The chosen elements of an image depend neither on the other images nor on the device. The global random state stays
    as it is.
    """

    def __init__(self, sampler: _Sampler, seeds: Sequence[int]) -> None:
        """Store the sampler and the seeds.

        Args:
            sampler: such as torchvision's ``BalancedPositiveNegativeSampler``: from the labels of each image (-1 for an
                element that is not used, 0 for background) to the masks of its positive and negative elements.
            seeds: of each image, in [0, 2^63).
        """
        self._sampler = sampler
        self._seeds = seeds

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the masks of the positive and of the negative elements of each image."""
        generator = torch.default_generator
        before = generator.get_state()
        positive, negative = [], []
        try:
            for one, seed in zip(labels, self._seeds, strict=True):
                generator.manual_seed(seed)  # torch.manual_seed would change those of the GPUs, too
                (chosen,), (background,) = self._sampler([one.cpu()])
                positive.append(chosen.to(one.device))
                negative.append(background.to(one.device))
        finally:
            generator.set_state(before)
        return positive, negative


@contextmanager
def shadowed(module: nn.Module, **values: Any) -> Iterator[None]:
    """Let attributes of a module, submodules included, have other values inside a block.

    The values stand in the instance's dictionary, which Python reads before it looks for a submodule. The module's
    parameters, buffers and state dict are the same inside the block.

    Args:
        module: has the attributes.
        values: by name.
    """
    attributes = vars(module)
    before = {name: attributes[name] for name in values if name in attributes}
    attributes.update(values)
    try:
        yield
    finally:
        for name in values:
            if name in before:
                attributes[name] = before[name]
            else:
                del attributes[name]
