"""Frost pattern: ice ferns and hoar, drawn; no photographs."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from stillroom.probe.image_fields import Draws, Floats, Pixels, clouds, mirrored

_CANVAS = 1024  # pixels a side
PATTERN_SIDES = 4  # the pattern is as large as this many sides of an image
_FERNS = 90
_BRANCH_ANGLE = math.pi / 3  # ice has six-fold symmetry


@lru_cache(maxsize=4)
def frost_pattern(seed: int, side: int) -> Floats:
    """Draw a pattern of frost of which an image shows a part.

    Args:
        seed: >= 0.
        side: the shorter side of the images in pixels.

    Returns:
        How much ice there is at each pixel, in [0, 1], float32 (4 side, 4 side).
    """
    draw = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 0xF05])))
    small = _ferns(seed).resize((PATTERN_SIDES * side, PATTERN_SIDES * side), Image.Resampling.BOX)
    ferns = np.asarray(small, dtype=np.float32) / np.float32(255)
    hoar = np.clip(0.5 + 0.4 * clouds([draw], *ferns.shape)[0], 0, 1)
    pattern: Floats = np.clip(ferns * (0.35 + 0.65 * hoar) + 0.4 * hoar**2, 0, 1).astype(np.float32)
    return pattern


@lru_cache(maxsize=4)
def _ferns(seed: int) -> Image.Image:
    draw = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 0xFE4])))
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    pen = ImageDraw.Draw(canvas)
    for _ in range(_FERNS):
        x, y = draw.uniform(-0.1, 1.1, 2) * _CANVAS
        _draw_fern(pen, draw, x, y, draw.uniform(0, 2 * math.pi), draw.uniform(0.12, 0.4) * _CANVAS, 6)
    return canvas


def _draw_fern(
    pen: ImageDraw.ImageDraw, draw: np.random.Generator, x: float, y: float, angle: float, length: float, width: float
) -> None:
    """Draw a slightly bent stem with branches that are shorter towards the tip."""
    steps = max(3, round(length / 12))
    bend = draw.normal(0, 0.5) / steps
    for step in range(steps):
        end_x, end_y = x + length / steps * math.cos(angle), y + length / steps * math.sin(angle)
        left = 1 - step / steps
        pen.line((x, y, end_x, end_y), fill=int(draw.integers(150, 256)), width=max(1, round(width * left)))
        if length > 24 and step > 0:
            for turn in (-_BRANCH_ANGLE, _BRANCH_ANGLE):
                branch = length * 0.38 * left * draw.uniform(0.6, 1)
                _draw_fern(pen, draw, end_x, end_y, angle + turn, branch, width * 0.5)
        x, y, angle = end_x, end_y, angle + bend


def windows(pattern: Floats, images: Pixels, draws: Draws) -> Floats:
    """Cut a random part out of a pattern for each image, mirrored and turned at random: float32 (n, H, W)."""
    height, width = images.shape[2:]
    cut = []
    for draw in draws:
        top, left = (int(draw.integers(0, max(1, len(pattern) - length + 1))) for length in (height, width))
        turned = np.rot90(pattern, int(draw.integers(4)))[:, :: int(draw.choice((1, -1)))]
        rows, columns = (
            mirrored(start + np.arange(length), len(pattern)) for start, length in ((top, height), (left, width))
        )
        cut.append(turned[rows[:, None], columns])
    return np.stack(cut)
