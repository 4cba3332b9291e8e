"""Draw the images of Glyphs-100: character masks are rendered once per font, everything else in batches.

Every random number comes from a Philox generator keyed by (seed, split, block of ids). Tensors only go through
element-wise arithmetic and sampling, so the bytes do not depend on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stillroom.extras import require

SIDE = 32  # pixels of a finished image
BLOCK = 500  # images drawn from one generator; part of the definition of the set
_CANVAS, _INK = 64, 48  # side of a mask, and longest side of the character in it
_SUPERSAMPLE = 2  # thin strokes would alias without it
_LUMA = (0.299, 0.587, 0.114)
_NEIGHBOURS, _STROKES = 2, 3


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Difficulty of the images; part of the cache key. Lengths are in pixels, colours in [0, 1].

    Attributes:
        size: longest side of the character, low and high.
        stretch: largest relative difference between horizontal and vertical scale.
        rotate: largest rotation in either direction, degrees.
        shear: largest horizontal shear in either direction.
        shift: largest shift of the centre in either direction along each axis.
        contrast: brightness difference between character and background, low and high.
        chroma: strength of colour differences at equal brightness.
        texture: strength of the blotches in the background; characters get half of it.
        gradient: largest brightness change across the background.
        neighbour: probability of each of the two neighbouring characters.
        neighbour_gap: distance of a neighbour's centre in units of the character's size, low and high.
        neighbour_twin: probability that a neighbour has the character's own colour.
        strokes: probability of each of the three lines; the first two run behind the character.
        blur: largest standard deviation of the blur.
        noise: largest standard deviation of the noise.
    """

    size: tuple[float, float] = (18.0, 27.0)
    stretch: float = 0.12
    rotate: float = 15.0
    shear: float = 0.2
    shift: float = 3.0
    contrast: tuple[float, float] = (0.3, 0.8)
    chroma: float = 0.2
    texture: float = 0.12
    gradient: float = 0.25
    neighbour: float = 0.4
    neighbour_gap: tuple[float, float] = (0.85, 1.25)
    neighbour_twin: float = 0.3
    strokes: float = 0.3
    blur: float = 1.0
    noise: float = 0.08


def font_path(name: str) -> Path:
    """Return the file of a font that ships inside matplotlib.

    Raises:
        InputError: matplotlib is not installed.
    """
    require("data=glyphs100", "report", ["matplotlib"])
    import matplotlib as mpl

    return Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"


@lru_cache(maxsize=4)
def glyph_masks(fonts: tuple[str, ...], characters: str) -> Tensor:
    """Render every character in every font, its longest side scaled to the same length and centred.

    Returns:
        float32 tensor (fonts, characters, 64, 64) in [0, 1].
    """
    from PIL import Image, ImageDraw, ImageFont

    masks = np.zeros((len(fonts), len(characters), _CANVAS, _CANVAS), dtype=np.float32)
    for row, name in enumerate(fonts):
        font = ImageFont.truetype(font_path(name), size=128)
        for column, character in enumerate(characters):
            left, top, right, bottom = (int(edge) for edge in font.getbbox(character))
            page = Image.new("L", (right - left + 4, bottom - top + 4))
            ImageDraw.Draw(page).text((2 - left, 2 - top), character, font=font, fill=255)
            ink = page.crop(page.getbbox())
            scale = _INK / max(ink.size)
            width, height = (max(1, round(edge * scale)) for edge in ink.size)
            x, y = (_CANVAS - width) // 2, (_CANVAS - height) // 2
            small = ink.resize((width, height), Image.Resampling.BOX)
            masks[row, column, y : y + height, x : x + width] = np.asarray(small, dtype=np.float32) / 255
    return torch.from_numpy(masks)


def draw_block(
    masks: Tensor,
    fonts: tuple[int, ...],
    labels: NDArray[np.int64],
    key: tuple[int, int, int],
    hard: Difficulty,
) -> Tensor:
    """Draw one block of images.

    Args:
        masks: what :func:`glyph_masks` returned.
        fonts: rows of ``masks`` to draw from.
        labels: int64 (n,), n <= BLOCK; column of ``masks`` for each image.
        key: (seed, split, block); a shorter block is a prefix of the full one.
        hard: difficulty of the images.

    Returns:
        uint8 tensor (n, 3, 32, 32).
    """
    n = len(labels)
    draw = _Draws(np.random.Generator(np.random.Philox(np.random.SeedSequence(key))), n)
    place = _placement(draw, hard)
    typeface = np.asarray(fonts)[draw.integers(len(fonts))]
    glyph = _sample(masks[typeface, labels], place, _SUPERSAMPLE)
    paper, ink = _colours(draw, hard)
    texture = _blotches(draw, hard.texture)
    canvas = paper + texture + _ramp(draw, hard.gradient)
    for _ in range(_NEIGHBOURS):
        beside = masks[typeface, draw.integers(masks.shape[1])]
        mask = _sample(beside, _neighbour_placement(draw, place, hard), 1) * draw.chance(hard.neighbour)
        twin = draw.chance(hard.neighbour_twin)
        canvas = _over(canvas, twin * ink + (1 - twin) * _any_colour(draw), mask)
    for index in range(_STROKES):
        if index == _STROKES - 1:
            canvas = _over(canvas, ink + 0.5 * _blotches(draw, hard.texture), glyph)
        line = _stroke(draw) * draw.chance(hard.strokes)
        canvas = _over(canvas, _any_colour(draw), line)
    canvas = _blur(canvas, draw.uniform(0.0, hard.blur))
    grain = draw.column(draw.uniform(0.0, hard.noise)) * draw.normal((3, SIDE, SIDE))
    return ((canvas + grain).clamp(0, 1) * 255).round().to(torch.uint8)


class _Draws:
    """Random numbers for a block: always drawn for BLOCK rows, so a shorter block is a prefix."""

    def __init__(self, generator: np.random.Generator, n: int) -> None:
        self._generator = generator
        self.n = n

    def uniform(self, low: float, high: float) -> NDArray[np.float64]:
        return self._generator.uniform(low, high, BLOCK)[: self.n]

    def integers(self, high: int) -> NDArray[np.int64]:
        return self._generator.integers(high, size=BLOCK)[: self.n]

    def chance(self, probability: float) -> Tensor:
        return self.column(self.uniform(0, 1) < probability)

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        values = self._generator.standard_normal((BLOCK, *shape), dtype=np.float32)
        return torch.from_numpy(values[: self.n])

    @staticmethod
    def column(values: NDArray[np.float64] | NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32))[:, None, None, None]


@dataclass(frozen=True, slots=True)
class _Placement:
    """Placement of characters: centre and size in pixels, and the rest of the affine map."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    size: NDArray[np.float64]
    stretch: NDArray[np.float64]
    angle: NDArray[np.float64]
    shear: NDArray[np.float64]


def _placement(draw: _Draws, hard: Difficulty) -> _Placement:
    return _Placement(
        x=draw.uniform(-hard.shift, hard.shift),
        y=draw.uniform(-hard.shift, hard.shift),
        size=draw.uniform(*hard.size),
        stretch=draw.uniform(-hard.stretch, hard.stretch),
        angle=np.deg2rad(draw.uniform(-hard.rotate, hard.rotate)),
        shear=draw.uniform(-hard.shear, hard.shear),
    )


def _neighbour_placement(draw: _Draws, place: _Placement, hard: Difficulty) -> _Placement:
    """Place a neighbour beside the character, near the line of writing."""
    heading = draw.uniform(-0.6, 0.6) + np.pi * draw.integers(2) + place.angle
    gap = draw.uniform(*hard.neighbour_gap) * place.size
    return _Placement(
        x=place.x + gap * np.cos(heading),
        y=place.y + gap * np.sin(heading),
        size=place.size * draw.uniform(0.8, 1.2),
        stretch=place.stretch,
        angle=place.angle + draw.uniform(-0.2, 0.2),
        shear=place.shear,
    )


def _sample(masks: Tensor, place: _Placement, supersample: int) -> Tensor:
    """Map masks (n, 64, 64) into images; returns (n, 1, 32, 32)."""
    fine = SIDE * supersample
    steps = (torch.arange(fine, dtype=torch.float32) + 0.5) / supersample - SIDE / 2
    dx = steps[None, None, :] - _plane(place.x)
    dy = steps[None, :, None] - _plane(place.y)
    # A pixel's offset from the centre is rotated back, unsheared, then scaled to mask coordinates.
    cos, sin = _plane(np.cos(place.angle)), _plane(np.sin(place.angle))
    across, down = dx * cos + dy * sin, dy * cos - dx * sin
    across = across + down * _plane(place.shear)
    unit = _INK / _CANVAS / (place.size / 2)
    grid = torch.stack([across * _plane(unit * (1 + place.stretch)), down * _plane(unit / (1 + place.stretch))], -1)
    sampled = F.grid_sample(masks[:, None], grid, align_corners=False)
    return F.avg_pool2d(sampled, supersample) if supersample > 1 else sampled


def _plane(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))[:, None, None]


def _colours(draw: _Draws, hard: Difficulty) -> tuple[Tensor, Tensor]:
    """Return colours (n, 3, 1, 1) of background and character, whose brightness differs by the contrast."""
    paper = draw.uniform(0.1, 0.9)
    step = draw.uniform(*hard.contrast)
    # Brighter or darker, whichever stays in range; either at random where both do.
    up = np.where(paper + step > 0.95, False, np.where(paper - step < 0.05, True, draw.uniform(0, 1) < 0.5))
    ink = paper + np.where(up, step, -step)
    return draw.column(paper) + _hue(draw, hard.chroma), draw.column(ink) + _hue(draw, hard.chroma)


def _hue(draw: _Draws, strength: float) -> Tensor:
    """Return colour offsets (n, 3, 1, 1) that do not change brightness."""
    channels = [draw.uniform(-strength, strength) for _ in _LUMA]
    brightness = sum(weight * channel for weight, channel in zip(_LUMA, channels, strict=True))
    return torch.cat([draw.column(channel - brightness) for channel in channels], dim=1)


def _any_colour(draw: _Draws) -> Tensor:
    return torch.cat([draw.column(draw.uniform(0, 1)) for _ in range(3)], dim=1)


def _blotches(draw: _Draws, strength: float) -> Tensor:
    coarse = draw.normal((3, 6, 6)) * strength
    return F.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear", align_corners=False)


def _ramp(draw: _Draws, strength: float) -> Tensor:
    heading, rise = draw.uniform(0, 2 * np.pi), draw.uniform(0, strength)
    steps = torch.linspace(-0.5, 0.5, SIDE)
    return draw.column(rise * np.cos(heading)) * steps + draw.column(rise * np.sin(heading)) * steps[:, None]


def _stroke(draw: _Draws) -> Tensor:
    """Return soft masks (n, 1, 32, 32) of straight lines across the image."""
    heading, offset = draw.uniform(0, np.pi), draw.uniform(-SIDE / 2, SIDE / 2)
    half_width, opacity = draw.uniform(0.4, 1.2), draw.uniform(0.4, 1.0)
    steps = torch.arange(SIDE, dtype=torch.float32) + 0.5 - SIDE / 2
    distance = draw.column(np.cos(heading)) * steps + draw.column(np.sin(heading)) * steps[:, None]
    away = (distance - draw.column(offset)).abs()
    return (draw.column(half_width + 0.5) - away).clamp(0, 1) * draw.column(opacity)


def _over(below: Tensor, colour: Tensor, mask: Tensor) -> Tensor:
    return below + (colour - below) * mask


def _blur(images: Tensor, sigma: NDArray[np.float64]) -> Tensor:
    """Blur each image (n, 3, H, W) with its own Gaussian, two taps either side."""
    for dim in (2, 3):
        taps = np.exp(-0.5 * (np.arange(3)[:, None] / np.maximum(sigma, 1e-3)) ** 2)
        taps /= taps[0] + 2 * taps[1:].sum(0)
        padded = F.pad(images, (0, 0, 2, 2) if dim == 2 else (2, 2, 0, 0), mode="replicate")
        length = images.shape[dim]
        near = padded.narrow(dim, 1, length) + padded.narrow(dim, 3, length)
        far = padded.narrow(dim, 0, length) + padded.narrow(dim, 4, length)
        images = images * _Draws.column(taps[0]) + near * _Draws.column(taps[1]) + far * _Draws.column(taps[2])
    return images
