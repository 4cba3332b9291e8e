"""Scenes: a data set with boxes, of characters and shapes that look alike, drawn here on demand.

It needs no download. A quarter of the fonts of validation scenes never occur in training scenes, so it measures
generalisation. Scenes are kept as PNG in memory and are read like the files of any other set with boxes.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from stillroom.boxes import ImageBoxes
from stillroom.data.boxed_source import BoxedSource, default_max_size
from stillroom.data.cache import cache_folder, write_cache
from stillroom.data.content_hash import hash_images
from stillroom.data.glyphs import FONTS, TRAIN_FONTS
from stillroom.data.scene_drawing import CLASSES, NATURAL_SIDE, draw_scene
from stillroom.errors import InputError
from stillroom.extras import require

NAME = "scenes"
TRAIN_COUNT = 2000
VERSION = 1  # increase it when the scenes change but nothing else in the cache key does
_VAL_FRACTION = 5  # a validation scene for each five training scenes
_LEAST_SIDE, _MOST_SIDE = 32, 1024
_GROUP = 100  # scenes whose pixels are in memory at a time

_log = logging.getLogger(__name__)


class EncodedBlock:
    """Encoded images one after another in one block of bytes: an image store in memory.

    Args:
        block: uint8 (M,), the bytes of all images.
        ends: int64 (n,), the end of each image in the block.
    """

    def __init__(self, block: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.block, self.ends = block, ends

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ends)

    def __getitem__(self, place: int) -> bytes:
        """Return the bytes of an image."""
        index = range(len(self))[place]
        begin = self.ends[index - 1] if index else 0
        return self.block[begin : self.ends[index]].tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class _Split:
    """All scenes of a split as arrays; ``counts`` is the number of objects of each scene."""

    block: NDArray[np.uint8]
    ends: NDArray[np.int64]
    digests: NDArray[np.int64]
    counts: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]

    def source(self, side: int) -> BoxedSource:
        ids = torch.arange(len(self.ends))
        boxes, labels = (torch.from_numpy(v).split_with_sizes(self.counts.tolist()) for v in (self.boxes, self.labels))
        nothing = torch.zeros(int(self.counts.max(initial=0)), dtype=torch.bool)
        objects = zip(boxes, labels, strict=True)
        return BoxedSource(
            store=EncodedBlock(self.block, self.ends),
            names=[f"scene {number}" for number in range(len(ids))],
            places=ids,
            ids=ids,
            labels=torch.zeros_like(ids),
            classes=CLASSES,
            digests=torch.from_numpy(self.digests),
            sizes=torch.full((len(ids), 2), side),
            objects=tuple(ImageBoxes(box, label, nothing[: len(label)], (side, side)) for box, label in objects),
            image_size=side,
            max_size=default_max_size(side),
        )


def scenes(
    seed: int = 0,
    train_count: int = TRAIN_COUNT,
    val_count: int = TRAIN_COUNT // _VAL_FRACTION,
    side: int = NATURAL_SIDE,
    *,
    cache: str | os.PathLike[str] | None = None,
) -> tuple[BoxedSource, BoxedSource]:
    """Return the training and the validation scenes, from the cache if they are there.

    A scene depends on the seed, its split, its id and the side only, so a smaller set is the beginning of a larger one.

    Args:
        seed: >= 0; another seed draws other scenes.
        train_count: number of training scenes, >= 1.
        val_count: number of validation scenes, >= 1.
        side: height and width of a scene in pixels, 32 to 1024; objects are 1/12 to 1/3 of it.
        cache: folder for the cached set; by default ``$STILLROOM_CACHE`` or the user's cache folder.

    Raises:
        InputError: an argument is outside its range, or matplotlib, which brings the fonts, is not installed.
    """
    for name, value, least in (("seed", seed, 0), ("train_count", train_count, 1), ("val_count", val_count, 1)):
        if value < least:
            raise InputError(f"{name} is {value}; give {least} or more")
    if not _LEAST_SIDE <= side <= _MOST_SIDE:
        raise InputError(f"image_size is {side}; scenes are drawn at {_LEAST_SIDE} to {_MOST_SIDE} pixels")
    require("data=scenes", "report", ["matplotlib"])
    key = [VERSION, seed, train_count, val_count, side, CLASSES, TRAIN_FONTS, FONTS]
    fingerprint = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    path = cache_folder(cache) / f"{NAME}-{fingerprint}.npz"
    splits = _read(path, (train_count, val_count))
    if splits is None:
        splits = _draw(seed, 0, train_count, TRAIN_FONTS, side), _draw(seed, 1, val_count, FONTS, side)
        _write(path, splits)
    train, val = (split.source(side) for split in splits)
    return train, val


def scene_count(name: str) -> int | None:
    """Return the number of training scenes that a name stands for: 2,000 of "scenes", N of "scenes:N"; else None.

    Raises:
        InputError: what follows the colon is not a number of 1 or more.
    """
    kind, colon, count = name.partition(":")
    if kind != NAME:
        return None
    if not colon:
        return TRAIN_COUNT
    if not (count.isascii() and count.isdigit() and 1 <= int(count) <= 10**6):
        raise InputError(f"data is {name!r}; give scenes, or scenes:N for N training scenes, such as scenes:500")
    return int(count)


def validation_count(train_count: int) -> int:
    """Return the number of validation scenes beside a number of training scenes: a fifth, at least one."""
    return max(1, train_count // _VAL_FRACTION)


def _draw(seed: int, split: int, count: int, fonts: tuple[str, ...], side: int) -> _Split:
    encoded: list[bytes] = []
    digests, counts, boxes, labels = [], [], [], []
    for ids in (range(start, min(start + _GROUP, count)) for start in range(0, count, _GROUP)):
        drawn = [draw_scene((seed, split, number), fonts, side) for number in ids]
        pixels = torch.from_numpy(np.stack([scene.image for scene in drawn]))
        digests.append(hash_images(pixels))  # of pixels: the bytes of a PNG depend on the version of zlib
        for scene in drawn:
            file = io.BytesIO()
            Image.fromarray(scene.image).save(file, "PNG", compress_level=1)
            encoded.append(file.getvalue())
        counts += [len(scene.labels) for scene in drawn]
        boxes += [scene.boxes for scene in drawn]
        labels += [scene.labels for scene in drawn]
    return _Split(
        block=np.frombuffer(b"".join(encoded), np.uint8),
        ends=np.cumsum([len(data) for data in encoded], dtype=np.int64),
        digests=torch.cat(digests).numpy(),
        counts=np.asarray(counts, np.int64),
        boxes=np.concatenate(boxes),
        labels=np.concatenate(labels),
    )


def _arrays(splits: tuple[_Split, _Split]) -> Iterator[tuple[str, NDArray[Any]]]:
    for side, split in zip(("train", "val"), splits, strict=True):
        for name in _Split.__slots__:
            yield f"{side}_{name}", getattr(split, name)


def _write(path: Path, splits: tuple[_Split, _Split]) -> None:
    arrays = dict(_arrays(splits))
    write_cache(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def _read(path: Path, counts: tuple[int, int]) -> tuple[_Split, _Split] | None:
    """Return the cached scenes, or None if there is no complete file with so many."""
    try:
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as stored:  # the zip container checks a CRC for each array
            train, val = (
                _Split(**{name: stored[f"{side}_{name}"] for name in _Split.__slots__}) for side in ("train", "val")
            )
        if (len(train.ends), len(val.ends)) != counts:
            raise ValueError("another number of scenes")
    except Exception as error:  # noqa: BLE001  a foreign or damaged file can raise anything
        _log.warning("cache %s is damaged (%s); drawing the set again", path, error)
        return None
    return train, val
