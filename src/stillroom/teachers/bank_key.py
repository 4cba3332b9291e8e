"""What decides a teacher's logits, as one name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from stillroom.data import DataSet

# To be raised when order, augmentation, the strong view or the bank's files change: older logits are then not found.
FORMAT = 2
BLOCK = 16_384  # positions of an epoch in one of the bank's files


@dataclass(frozen=True)
class BankKey:
    """All that decides a teacher's logits; plain values.

    Attributes:
        teacher: fingerprint of the teacher: its weights, and all else that it computes with.
        images: fingerprints of the images, as :func:`stillroom.prepare.run_identity.data_fingerprints` makes them.
        augment: settings of the augmentation, None for none.
        mean: of each channel on [0, 1].
        std: of each channel on [0, 1].
        seed: of order and augmentation.
        precision: what the teacher computes in, after "auto" was resolved.
        classes: number of logits an image.
        count: number of training images.
        probe: what the teacher says about a few training images. It is no part of the key, for it may differ in its
            last digits on another processor; it is kept beside the logits and compared with a tolerance.
    """

    teacher: str
    images: str
    augment: dict[str, Any] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    precision: str
    classes: int
    count: int
    probe: tuple[tuple[float, ...], ...] = field(default=(), compare=False)

    def plain(self) -> dict[str, Any]:
        """The key and the layout of the files, as JSON gives them back."""
        values: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, "block": BLOCK, **asdict(self)}))
        del values["probe"]
        return values

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that name the key."""
        text = json.dumps(self.plain(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def bank_key(
    data: DataSet, *, teacher: str, images: str, probe: Sequence[Sequence[float]] = (), seed: int, precision: str
) -> BankKey:
    """Name the logits that a teacher gives for a data set.

    Args:
        data: training and validation images with their statistics and augmentation.
        teacher: fingerprint of the teacher.
        images: fingerprints of training and validation images.
        probe: what the teacher says about a few training images.
        seed: of the training loader.
        precision: what the teacher computes in, after "auto" was resolved.
    """
    return BankKey(
        teacher=teacher,
        images=images,
        augment=None if data.augment is None else asdict(data.augment),
        mean=tuple(data.mean),
        std=tuple(data.std),
        seed=seed,
        precision=precision,
        classes=len(data.train.classes),
        count=len(data.train),
        probe=tuple(map(tuple, probe)),
    )
