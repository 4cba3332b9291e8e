"""Glyphs-100: a data set of 100 characters that look alike, drawn from fonts inside matplotlib.

It needs no download and is drawn in seconds, for tutorials, tests and benchmarks. Characters come in groups that look
alike (O Q 0 Θ, b 6 б δ, w ω ш щ, ...), but no two share an outline in any font used. The test split has fonts that the
training split does not have, so it measures generalisation. Train without left-right flips: they turn some characters
into others (b and d, N and И).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from stillroom.data.cache import cache_folder, write_cache
from stillroom.data.glyph_drawing import BLOCK, SIDE, Difficulty, draw_block, glyph_masks
from stillroom.data.image_set import ImageSet
from stillroom.errors import InputError

VERSION = 1  # increase it when the images change but nothing else in the cache key does
DIFFICULTY = Difficulty()

CHARACTERS = "OQ0ΘФØ©@CGeєεEDPRBß8β6бbδðρþЬЪы9gqaæœ3ЭξζςS5$2Z7TτΣ§1Ii!jJ†‡LΓҐFfrtuυνμyγYnηhHИNMmwωшщцчЯAΔЛλKЖXχψφЮ"
TRAIN_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
)
HELD_OUT_FONTS = ("DejaVuSans-BoldOblique", "DejaVuSansMono", "DejaVuSerif-Italic", "STIXGeneralBol")
FONTS = TRAIN_FONTS + HELD_OUT_FONTS
CLASSES = tuple(f"U+{ord(character):04X} {character}" for character in CHARACTERS)

_log = logging.getLogger(__name__)


def glyphs100(
    seed: int = 0,
    train_per_class: int = 200,
    test_per_class: int = 50,
    *,
    cache: str | os.PathLike[str] | None = None,
    difficulty: Difficulty = DIFFICULTY,
) -> tuple[ImageSet, ImageSet]:
    """Return the training and the test split, from the cache if they are there.

    The image with id i is of class ``i % 100``, so a smaller set is the beginning of a larger one.

    Args:
        seed: >= 0; another seed draws other images.
        train_per_class: training images of each class, >= 1.
        test_per_class: test images of each class, >= 1.
        cache: folder for the cached set; by default ``$STILLROOM_CACHE`` or the user's cache folder.
        difficulty: difficulty of the images.

    Returns:
        Two image sets with uint8 images (100 * per class, 3, 32, 32).

    Raises:
        InputError: a negative seed, or less than one image per class.
    """
    for name, value, least in (
        ("seed", seed, 0),
        ("train_per_class", train_per_class, 1),
        ("test_per_class", test_per_class, 1),
    ):
        if value < least:
            raise InputError(f"{name} is {value}; give {least} or more")
    key = [VERSION, seed, train_per_class, test_per_class, CHARACTERS, TRAIN_FONTS, FONTS, asdict(difficulty)]
    fingerprint = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    path = cache_folder(cache) / f"glyphs100-{fingerprint}.npz"
    sizes = (train_per_class * len(CLASSES), test_per_class * len(CLASSES))
    images = _read(path, sizes)
    if images is None:
        train = _draw_split(seed, 0, sizes[0], len(TRAIN_FONTS), difficulty)
        images = train, _draw_split(seed, 1, sizes[1], len(FONTS), difficulty)
        write_cache(path, lambda file: _write(file, *images))
    return _image_set(images[0]), _image_set(images[1])


def _draw_split(seed: int, split: int, count: int, fonts: int, difficulty: Difficulty) -> Tensor:
    masks = glyph_masks(FONTS, CHARACTERS)
    labels = np.arange(count) % len(CHARACTERS)
    blocks = [
        draw_block(
            masks,
            tuple(range(fonts)),
            labels[start : start + BLOCK],
            (seed, split, start // BLOCK),
            difficulty,
        )
        for start in range(0, count, BLOCK)
    ]
    return torch.cat(blocks)


def _image_set(images: Tensor) -> ImageSet:
    ids = torch.arange(len(images))
    return ImageSet(images=images, labels=ids % len(CLASSES), ids=ids, classes=CLASSES)


def _write(file: IO[bytes], train: Tensor, test: Tensor) -> None:
    np.savez(file, train=train.numpy(), test=test.numpy())


def _read(path: Path, sizes: tuple[int, int]) -> tuple[Tensor, Tensor] | None:
    """Return the cached images, or None if there is no complete file with images of this shape."""
    try:
        if not path.is_file():
            return None
        with np.load(path) as stored:  # the zip container checks a CRC for each array
            train, test = stored["train"], stored["test"]
    except Exception as error:  # noqa: BLE001  a foreign or damaged file can raise anything
        _log.warning("cache %s is damaged (%s); drawing the set again", path, error)
        return None
    for array, count in zip((train, test), sizes, strict=True):
        if array.shape != (count, 3, SIDE, SIDE) or array.dtype != np.uint8:
            _log.warning("cache %s has other content; drawing the set again", path)
            return None
    return torch.from_numpy(train), torch.from_numpy(test)
