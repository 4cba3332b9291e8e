"""Weather: snow, frost and fog, after Hendrycks and Dietterich, ICLR 2019; drawn, with strengths of our own."""

from __future__ import annotations

import math

import numpy as np

from stillroom.probe.frost import frost_pattern, windows
from stillroom.probe.image_fields import (
    Draws,
    Floats,
    Pixels,
    clouds,
    convolved,
    shorter_side,
    strength,
    stroke,
)

_ICE = (0.80, 0.90, 1.0)  # red, green, blue
_HAZE = 0.88
_FLAKES = 0.97  # brightness
_FALL = 0.7  # radians that flakes fall from the vertical at most


def snow(images: Pixels, draws: Draws, severity: int) -> Pixels:
    """Falling flakes, near and far, and a paler scene; flakes cover about 5 to 35 percent of the image."""
    side = shorter_side(images)
    radius, length = strength(0.007, 0.011, severity) * side, strength(0.03, 0.08, severity) * side
    angles = [math.pi / 2 + draw.uniform(-_FALL, _FALL) for draw in draws]
    cover = np.zeros_like(images[:, :1])
    for distance in (1, 2):  # flakes that are twice as far look half as large
        near_radius, near_length = radius / distance, length / distance
        flake = math.pi * near_radius**2 + 2 * near_radius * near_length  # pixels
        count = round(strength(0.025, 0.175, severity) * images.shape[2] * images.shape[3] / flake)
        spots = np.stack([_spots(draw, count, *images.shape[2:]) for draw in draws])[:, None]
        cover += convolved(spots, [stroke(near_length, near_radius, angle) for angle in angles])
    cover = np.clip(cover, 0, 1)
    pale = np.float32(strength(0.12, 0.45, severity))
    grey = images.mean(axis=1, keepdims=True)
    paler = (1 - pale) * images + pale * (np.float32(0.5) * grey + np.float32(0.5))
    snowy: Pixels = paler + cover * (np.float32(_FLAKES) - paler)
    return snowy


def frost(images: Pixels, draws: Draws, severity: int, seed: int) -> Pixels:
    """Ice on a window before the scene, bluish white; more and denser with the severity.

    Args:
        images: as for every corruption.
        draws: as for every corruption.
        severity: as for every corruption.
        seed: of the pattern of ice, of which each image shows a random part.
    """
    ice = windows(frost_pattern(seed, shorter_side(images)), images, draws)[:, None]
    opacity = np.clip(np.float32(strength(0.4, 1.2, severity)) * ice, 0, np.float32(0.93))
    colour = np.array(_ICE if images.shape[1] == 3 else [sum(_ICE) / 3], np.float32)[:, None, None]
    frosted: Pixels = images + opacity * (colour - images)
    return frosted


def fog(images: Pixels, draws: Draws, severity: int) -> Pixels:
    """Haze of uneven density before the scene, through which exp(-0.25) to exp(-1.3) of it is seen."""
    density = np.float32(strength(0.25, 1.3, severity)) * np.clip(
        1 + np.float32(0.6) * clouds(draws, *images.shape[2:])[:, None], np.float32(0.1), 2
    )
    seen = np.exp(-density)
    hazy: Pixels = seen * images + (1 - seen) * np.float32(_HAZE)
    return hazy


def _spots(draw: np.random.Generator, count: int, height: int, width: int) -> Floats:
    """An image of points of brightness 0.5 to 1 at real positions, each spread over the four pixels around it."""
    rows, columns, light = draw.random((3, count)) * np.array([[height], [width], [0.5]])
    spots = np.zeros((height + 1, width + 1))
    top, left = rows.astype(np.int64), columns.astype(np.int64)
    down, right = rows - top, columns - left
    for step, near_row in ((0, 1 - down), (1, down)):
        for aside, near_column in ((0, 1 - right), (1, right)):
            np.add.at(spots, (top + step, left + aside), (0.5 + light) * near_row * near_column)
    return spots[:height, :width].astype(np.float32)
