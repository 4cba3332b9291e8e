"""Bank key: a digest of everything that determines a teacher's logits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from stillroom.data import Augment, DataSet
from stillroom.input_format import InputFormat

# Raise it when order, augmentation, the strong view or the file layout changes: older logits are then not found.
FORMAT = 3
BLOCK = 16_384  # positions of an epoch per file


@dataclass(frozen=True)
class BankKey:
    """Everything that determines a teacher's logits, as plain values.

    Attributes:
        teacher: fingerprint of the teacher's weights and of all else that determines its predictions.
        images: fingerprints of the images, as :func:`stillroom.prepare.run_identity.data_fingerprints` makes them; with
            those of the labels where the images of an epoch depend on them.
        augment: settings of the augmentation; None without augmentation.
        input_format: how the teacher takes the images, with all digits.
        seed: of order and augmentation.
        precision: precision of the teacher's forward pass, "32" or "bf16".
        classes: number of classes.
        count: number of training images.
        bits: stored for each logit, 16 or 8; students train on the rounded logits.
        probe: the teacher's logits on a few training images (:func:`stillroom.teachers.logit_fingerprint.probe`). It
            is not part of the key, because its last digits may differ on another processor. It is stored with the
            logits and compared with a tolerance.
    """

    teacher: str
    images: str
    augment: dict[str, Any] | None
    input_format: str
    seed: int
    precision: str
    classes: int
    count: int
    bits: int = 16
    probe: tuple[tuple[float, ...], ...] = field(default=(), compare=False)

    def plain(self) -> dict[str, Any]:
        """The key and the file layout, as read back from JSON."""
        values: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, "block": BLOCK, **asdict(self)}))
        del values["probe"]
        return values

    @cached_property
    def digest(self) -> str:
        """Digest of the key, sixteen hexadecimal digits."""
        text = json.dumps(self.plain(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def bank_key(
    data: DataSet,
    *,
    teacher: str,
    input_format: InputFormat,
    images: str,
    probe: Sequence[Sequence[float]] = (),
    seed: int,
    precision: str,
    bits: int,
) -> BankKey:
    """The bank key of a teacher's logits on a data set.

    Args:
        data: training and validation images with their statistics and augmentation.
        teacher: fingerprint of the teacher.
        input_format: how it takes the images.
        images: as in :class:`BankKey`.
        probe: the teacher's logits on a few training images.
        seed: of the training loader.
        precision: precision of the teacher's forward pass, "32" or "bf16".
        bits: stored for each logit, 16 or 8.
    """
    return BankKey(
        teacher=teacher,
        images=images,
        augment=None if data.augment is None else _decisive(data.augment),
        input_format=repr(input_format),
        seed=seed,
        precision=precision,
        classes=len(data.train.classes),
        count=len(data.train),
        bits=bits,
        probe=tuple(map(tuple, probe)),
    )


def _decisive(augment: Augment) -> dict[str, Any]:
    """The settings that decide the images; those of mixing only where it is on, as banks were filled before it."""
    off = () if augment.mixes else ("mixup", "cutmix", "mix_probability")
    return {name: value for name, value in asdict(augment).items() if name not in off}
