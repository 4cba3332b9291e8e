"""Corrupted sets: validation images with C-style corruptions, in the form in which official files are read too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from stillroom.data.image_set import ImageSet
from stillroom.data.source import Source
from stillroom.errors import InputError
from stillroom.probe.corruptions import CORRUPTIONS, corrupted
from stillroom.probe.image_fields import SEVERITIES

KEPT_BYTES = 2**29  # of corrupted images that are kept for the next network


class CorruptedSet(Protocol):
    """Images with labels, corrupted in several ways.

    Attributes:
        corruptions: the names of the kinds.
        fingerprint: changes with the images.
        count: number of images of one kind and severity.
    """

    corruptions: Sequence[str]
    fingerprint: str
    count: int

    def images(self, corruption: str, severity: int) -> Iterable[ImageSet]:
        """The images of one kind and severity, in parts that fit into memory, in the same order for each.

        Raises:
            InputError: they cannot be read.
        """


class CStyleSet:
    """Validation images with the corruptions of :mod:`stillroom.probe.corruptions`.

    Args:
        clean: the images; 1 or 3 channels, sides of 8 pixels or more.
        seed: of the corruptions.
    """

    corruptions: Sequence[str] = tuple(CORRUPTIONS)

    def __init__(self, clean: ImageSet, seed: int) -> None:
        self.clean, self.seed = clean, seed
        self.fingerprint, self.count = clean.fingerprint, len(clean)
        if len(clean):
            corrupted(clean.images[:1], clean.ids[:1], self.corruptions[0], 1, seed)  # refuses what is impossible
        whole = clean.images.numel() * len(self.corruptions) * len(SEVERITIES)
        self._kept: dict[tuple[str, int], ImageSet] | None = {} if whole <= KEPT_BYTES else None

    def images(self, corruption: str, severity: int) -> Iterable[ImageSet]:
        """All in one part."""
        known = {} if self._kept is None else self._kept
        if (corruption, severity) not in known:
            pixels = corrupted(self.clean.images, self.clean.ids, corruption, severity, self.seed)
            known[corruption, severity] = replace(self.clean, images=pixels, digests=None)
        return [known[corruption, severity]]


def in_memory(source: Source, places: Tensor) -> ImageSet:
    """The images of a source at ``places``, int64 (n,), as they are stored, in memory."""
    return ImageSet(source.pixels(places), source.labels[places], source.ids[places], source.classes)


def even_choice(labels: Tensor, wanted: int) -> Tensor:
    """Choose images so that each class has about its fraction of them.

    Args:
        labels: (N,).
        wanted: how many; 0, or more than there are, for all.

    Returns:
        Their places in order, int64 (n,).
    """
    if not 0 < wanted < len(labels):
        return torch.arange(len(labels))
    by_class = torch.argsort(labels, stable=True)
    return by_class[torch.arange(wanted) * len(labels) // wanted].sort().values


def severities_of(texts: Sequence[str] | None) -> tuple[int, ...]:
    """The severities that were chosen; all without a choice.

    Raises:
        InputError: one is not 1 to 5.
    """
    for text in texts or ():
        if text not in map(str, SEVERITIES):
            raise InputError(f"severities={text}; give numbers from 1 to {SEVERITIES[-1]}, separated by commas")
    return SEVERITIES if not texts else tuple(sorted({int(text) for text in texts}))
