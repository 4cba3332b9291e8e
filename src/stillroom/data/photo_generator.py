"""Generator of photograph-like JPEG files in class folders, for tests and benchmarks of large sets.

An image has a background and shapes with 1/f textures, as photographs have, under random light and noise. Form,
colours, number and layout of the shapes depend on the class, so a network can learn the classes.
"""

from __future__ import annotations

import colorsys
import io
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stillroom.data.process_pool import map_in_processes
from stillroom.errors import InputError

# Width, height and frequency, about as in ImageNet.
MIXED_SIZES = (
    (500, 375, 0.45), (500, 333, 0.15), (375, 500, 0.15), (333, 500, 0.05), (500, 500, 0.05), (640, 480, 0.05),
    (300, 225, 0.04), (200, 150, 0.02), (800, 600, 0.02), (1024, 768, 0.02),
)  # fmt: skip

_SIDE = 1024  # of the textures, which repeat beyond it
_TEXTURES = 6
_TASK = 32  # images that a worker makes at a time
_FORMS = ("triangle", "square", "pentagon", "hexagon", "star", "cross", "ellipse", "ring")

_Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClassLook:
    """What the images of a class have in common.

    Attributes:
        form: one of eight forms.
        hue: of the shapes, in [0, 1).
        ground: hue of the background, in [0, 1).
        places: centres of the shapes, as fractions of width and height.
        stripes: number of dark stripes across a shape; 0 for none.
    """

    form: str
    hue: float
    ground: float
    places: tuple[tuple[float, float], ...]
    stripes: int


@dataclass(frozen=True, slots=True)
class PhotoSettings:
    """How the files of a set are made.

    Attributes:
        seed: >= 0.
        size: width and height in pixels, or "mixed" for sizes as in ImageNet.
        quality: JPEG quality in [1, 100], or the lowest and the highest of a range.
    """

    seed: int = 0
    size: tuple[int, int] | Literal["mixed"] = (500, 375)
    quality: int | tuple[int, int] = 90


def write_photos(
    folder: str | os.PathLike[str],
    classes: int = 100,
    per_class: int = 500,
    val_per_class: int | None = None,
    *,
    seed: int = 0,
    size: tuple[int, int] | Literal["mixed"] = (500, 375),
    quality: int | tuple[int, int] = 90,
    processes: int | None = None,
) -> int:
    """Write ``train/CLASS/CLASS_INDEX.JPEG`` and ``val/CLASS/CLASS_val_INDEX.JPEG``.

    Each file depends on the seed, its split, class and index only. Files that exist are kept, so a larger set extends
    a smaller one.

    Args:
        folder: the set; created if it is missing.
        classes: number of classes, >= 2; they are named n00000000, n00000001, ...
        per_class: training images of each class, >= 1.
        val_per_class: validation images of each class, >= 0; None for a tenth of ``per_class``, at least 1.
        seed: see :class:`PhotoSettings`, as for ``size`` and ``quality``.
        size: width and height in pixels, at least 8 each, or "mixed".
        quality: JPEG quality, or a range of it.
        processes: number of worker processes; None for one per core.

    Returns:
        The number of files that were written.

    Raises:
        InputError: an argument is outside its range.
    """
    val_per_class = max(1, per_class // 10) if val_per_class is None else val_per_class
    lowest, highest = quality if isinstance(quality, tuple) else (quality, quality)
    for name, value, least in (
        ("classes", classes, 2), ("per_class", per_class, 1), ("val_per_class", val_per_class, 0), ("seed", seed, 0),
        ("size", 8 if size == "mixed" else min(size), 8), ("quality", lowest, 1),
    ):  # fmt: skip
        if value < least:
            raise InputError(f"{name} is {value}; give {least} or more")
    if not lowest <= highest <= 100:
        raise InputError(f"quality is {quality}; give 1 to 100, or the lowest and the highest of a range")
    settings = PhotoSettings(seed, size, quality)
    _textures(seed)  # before the workers fork
    tasks = (
        (split, label, range(start, min(start + _TASK, count)))
        for split, count in (("train", per_class), ("val", val_per_class))
        for label in range(classes)
        for start in range(0, count, _TASK)
    )
    write = partial(_write_some, Path(folder), settings)
    return sum(map_in_processes(write, tasks, processes or len(os.sched_getaffinity(0))))


def photo(settings: PhotoSettings, split: str, label: int, index: int) -> bytes:
    """Return one JPEG file.

    Args:
        settings: of the set.
        split: "train" or "val".
        label: the class, >= 0.
        index: of the image in its class and split, >= 0.
    """
    key = (settings.seed, 1 + ("train", "val").index(split), label, index)
    draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
    if settings.size == "mixed":
        fractions = [fraction for *_, fraction in MIXED_SIZES]
        width, height, _ = MIXED_SIZES[draw.choice(len(MIXED_SIZES), p=fractions)]
    else:
        width, height = settings.size
    low, high = settings.quality if isinstance(settings.quality, tuple) else (settings.quality,) * 2
    quality = int(draw.integers(low, high + 1))
    pixels = _scene(draw, class_look(settings.seed, label), _textures(settings.seed), width, height)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


@lru_cache(maxsize=4096)
def class_look(seed: int, label: int) -> ClassLook:
    """Draw what the images of a class have in common."""
    draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 0, label))))
    # Places on a grid, so that the layouts of two classes differ clearly or not at all.
    cells = draw.choice(9, size=int(draw.integers(1, 4)), replace=False)
    places = tuple((0.2 + 0.3 * (cell % 3), 0.2 + 0.3 * (cell // 3)) for cell in cells.tolist())
    form = _FORMS[int(draw.integers(len(_FORMS)))]
    return ClassLook(form, float(draw.random()), float(draw.random()), places, int(draw.integers(4)))


def _write_some(folder: Path, settings: PhotoSettings, task: tuple[str, int, Iterable[int]]) -> int:
    split, label, indices = task
    name = f"n{label:08}"
    written = 0
    for index in indices:
        path = folder / split / name / f"{name}_{'' if split == 'train' else 'val_'}{index}.JPEG"
        if not path.exists():
            content = photo(settings, split, label, index)
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            aside.write_bytes(content)
            aside.replace(path)
            written += 1
    return written


@lru_cache(maxsize=2)
def _textures(seed: int) -> _Pixels:
    """Return textures (n, side, side) with 1/f amplitude, mean 0 and deviation 1, and last one of white noise."""
    draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 0))))
    white = draw.standard_normal((_TEXTURES + 1, _SIDE, _SIDE), dtype=np.float32)
    rows, columns = np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None, :]
    frequency = np.maximum(np.hypot(rows, columns), 1 / _SIDE)
    for number in range(_TEXTURES):
        spectrum = np.fft.rfft2(white[number]) / frequency ** (0.9 + 0.1 * number)
        spectrum[0, 0] = 0
        texture = np.fft.irfft2(spectrum, (_SIDE, _SIDE))
        white[number] = texture / texture.std()
    return white


def _window(draw: np.random.Generator, texture: _Pixels, width: int, height: int) -> _Pixels:
    """Cut a random window out of a texture that repeats."""
    top, left = draw.integers(_SIDE, size=2)
    rows, columns = (top + np.arange(height)) % _SIDE, (left + np.arange(width)) % _SIDE
    step = 1 if draw.random() < 0.5 else -1
    window: _Pixels = texture[rows[::step, None], columns[None, :]]
    return window


def _scene(draw: np.random.Generator, look: ClassLook, textures: _Pixels, width: int, height: int) -> NDArray[np.uint8]:
    """Draw one image; returns (height, width, 3)."""
    canvas = np.empty((3, height, width), dtype=np.float32)
    along = draw.uniform(-60, 60, size=2)
    ramp = (
        np.linspace(-along[0], along[0], width, dtype=np.float32)[None, :]
        + np.linspace(-along[1], along[1], height, dtype=np.float32)[:, None]
    )
    ramp += draw.uniform(14, 32) * _window(draw, textures[draw.integers(_TEXTURES)], width, height)
    tint = _window(draw, textures[draw.integers(_TEXTURES)], width, height)
    for channel, level in zip(canvas, _colour(draw, look.ground, 0.35), strict=True):
        np.multiply(tint, np.float32(draw.uniform(-10, 10)), out=channel)
        channel += ramp
        channel += np.float32(level)
    inside = draw.uniform(12, 28) * _window(draw, textures[draw.integers(_TEXTURES)], width, height)
    other = ClassLook(_FORMS[draw.integers(len(_FORMS))], draw.random(), 0.0, (tuple(draw.random(2)),), 0)
    for drawn, scale in ((other, 0.5), (look, 1.0)):  # a small shape that says nothing about the class comes first
        mask = _shapes(draw, drawn, scale, width, height)
        for channel, level in zip(canvas, _colour(draw, drawn.hue, 0.85), strict=True):
            channel += mask * (inside + np.float32(level) - channel)
    light, contrast = draw.uniform(-20, 20), draw.uniform(0.8, 1.1)
    grain = draw.uniform(7, 17) * _window(draw, textures[-1], width, height)
    grain += np.float32(128 + light - contrast * 128)
    for channel in canvas:
        channel *= np.float32(contrast)
        channel += grain
    return np.ascontiguousarray(canvas.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def _colour(draw: np.random.Generator, hue: float, saturation: float) -> tuple[float, ...]:
    """Return red, green and blue in [0, 255] near a hue."""
    hue = (hue + draw.normal(0, 0.025)) % 1
    channels = colorsys.hsv_to_rgb(hue, saturation * draw.uniform(0.7, 1), draw.uniform(0.4, 0.85))
    return tuple(255 * channel for channel in channels)


def _shapes(draw: np.random.Generator, look: ClassLook, scale: float, width: int, height: int) -> _Pixels:
    """Draw the shapes of a class at half the size and enlarge them, which makes their edges soft."""
    mask = Image.new("L", (max(1, width // 2), max(1, height // 2)))
    pen = ImageDraw.Draw(mask)
    short = min(mask.size)
    shift = draw.uniform(-0.1, 0.1, size=2)
    for place in look.places:
        x, y = (np.add(place, shift) + draw.normal(0, 0.03, size=2)) * mask.size
        radius = scale * short * draw.uniform(0.13, 0.26)
        angle = draw.uniform(-0.4, 0.4)
        _draw_form(pen, look.form, x, y, radius, angle)
        for number in range(look.stripes):
            across = 2 * (number + 1) / (look.stripes + 1) - 1
            ends = [(x + radius * dx, y + radius * dy) for dx, dy in (_turned(across, end, angle) for end in (-1, 1))]
            pen.line(ends, fill=90, width=max(1, round(radius / 8)))
    soft = mask.resize((width, height), Image.Resampling.BILINEAR)
    opacity: _Pixels = np.multiply(np.asarray(soft), np.float32(1 / 255), dtype=np.float32)
    return opacity


def _draw_form(pen: ImageDraw.ImageDraw, form: str, x: float, y: float, radius: float, angle: float) -> None:
    if form in ("ellipse", "ring"):
        box = (x - radius, y - 0.75 * radius, x + radius, y + 0.75 * radius)
        if form == "ellipse":
            pen.ellipse(box, fill=255)
        else:
            pen.ellipse(box, outline=255, width=max(1, round(radius / 3)))
        return
    corners = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6, "star": 10, "cross": 12}[form]
    reach = {"star": (1.0, 0.45), "cross": (1.0, 1.0, 0.45)}.get(form, (1.0,))
    points = []
    for corner in range(corners):
        dx, dy = _turned(0, -radius * reach[corner % len(reach)], angle + 2 * math.pi * corner / corners)
        points.append((x + dx, y + dy))
    pen.polygon(points, fill=255)


def _turned(x: float, y: float, angle: float) -> tuple[float, float]:
    """Rotate a point around the origin."""
    return x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
