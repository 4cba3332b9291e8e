"""A split as it lies on disk: what each picture is called, its label, and how to get at it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stillroom.data.decode import Decoded, Source, decode_all
from stillroom.data.memory import ImageSet
from stillroom.data.report import counted, first_few
from stillroom.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """The pictures of one split before they are decoded.

    Attributes:
        where: the split's folder or file, for messages.
        names: one a picture, unique in the split; paths or rows.
        labels: int64 array (n,), values in [0, len(classes)).
        classes: the names of the classes.
        chunks: makes an iterator over the pictures in order, some at a time.
        complaints: what was found wrong with the split so far; with any, it cannot be used.
    """

    where: str
    names: Sequence[str]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    chunks: Callable[[], Iterator[Sequence[Source]]]
    complaints: tuple[str, ...] = ()

    def decode(self, image_size: int | None) -> Decoded:
        """Decode all pictures; see :func:`stillroom.data.decode.decode_all`."""
        return decode_all(self.chunks(), len(self.names), image_size, self.where)

    def image_set(self, decoded: Decoded, places: NDArray[np.int64] | None = None) -> ImageSet:
        """Put pictures and labels together.

        Args:
            decoded: what :meth:`decode` returned.
            places: keep only the pictures listed at these places, ascending; None keeps all.

        Returns:
            A set whose ids are the places in the listing, broken pictures counted, so that ids stay when a
            picture is repaired.
        """
        kept = np.arange(len(decoded.places)) if places is None else np.isin(decoded.places, places).nonzero()[0]
        ids = decoded.places[kept]
        return ImageSet(
            images=decoded.images if places is None else decoded.images[torch.from_numpy(kept)],
            labels=torch.from_numpy(self.labels[ids]),
            ids=torch.from_numpy(ids),
            classes=self.classes,
        )

    def held_out(self, val_fraction: float, seed: int) -> NDArray[np.bool_]:
        """Choose the pictures to validate on: the same share of each class, decided by seed and name.

        Args:
            val_fraction: in (0, 1); every class gives at least one picture and keeps at least one.
            seed: another seed chooses others.

        Returns:
            bool array (n,).

        Raises:
            InputError: classes with a single picture.
        """
        digests = [hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest() for name in self.names]
        chosen = np.zeros(len(self.names), dtype=bool)
        single: list[str] = []
        for label, name in enumerate(self.classes):
            members = sorted((self.labels == label).nonzero()[0], key=lambda place: digests[place])
            if len(members) == 1:
                single.append(name)
            count = min(max(1, round(val_fraction * len(members))), len(members) - 1)
            chosen[members[: max(count, 0)]] = True
        if single:
            raise InputError(
                f"{counted(len(single), 'class')} of {self.where} with one picture cannot be split: "
                f"{first_few(single)}; add pictures or make train and val folders"
            )
        return chosen
