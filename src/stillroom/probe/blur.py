"""Blur: defocus, glass, motion and zoom blur, after Hendrycks and Dietterich, ICLR 2019; strengths of our own.

Lengths are fractions of the image's side, so that images of any size lose the same fraction of their detail.
"""

from __future__ import annotations

import math

import numpy as np

from stillroom.probe.image_fields import (
    Draws,
    Floats,
    Pixels,
    convolved,
    gaussian,
    mirrored,
    pixels_at,
    shorter_side,
    strength,
    stroke,
)


def defocus_blur(images: Pixels, draws: Draws, severity: int) -> Pixels:  # noqa: ARG001
    """Spread each point over a disc, as a lens out of focus does; its radius is 2.2 to 7 percent of the side."""
    return convolved(images, [_sum_one(stroke(0, strength(0.022, 0.07, severity) * shorter_side(images), 0))])


def glass_blur(images: Pixels, draws: Draws, severity: int) -> Pixels:
    """Blur a little and read each pixel at a random place, 1.8 to 6 percent of the side away at most."""
    reach = strength(0.018, 0.06, severity) * shorter_side(images)
    soft = gaussian(max(0.3, reach / 4))
    height, width = images.shape[2:]
    shifts = np.stack([draw.uniform(-reach, reach, (2, height, width)) for draw in draws])
    rows, columns = (np.rint(shifts[:, axis]).astype(np.int64) for axis in (0, 1))
    rows = mirrored(rows + np.arange(height)[:, None], height)
    columns = mirrored(columns + np.arange(width), width)
    return pixels_at(convolved(images, [soft]), rows, columns)


def motion_blur(images: Pixels, draws: Draws, severity: int) -> Pixels:
    """Spread each point along a line in a random direction; its length is 6 to 28 percent of the side."""
    length = strength(0.06, 0.28, severity) * shorter_side(images)
    return convolved(images, [_sum_one(stroke(length, 0.5, draw.uniform(0, math.pi))) for draw in draws])


def zoom_blur(images: Pixels, draws: Draws, severity: int) -> Pixels:  # noqa: ARG001
    """Average the image over a zoom towards its middle; the last is 10 to 60 percent larger."""
    growth = strength(0.1, 0.6, severity)
    steps = math.ceil(growth * max(images.shape[2:]) / 2) + 2  # the edge moves less than a pixel a step
    total = np.zeros_like(images)
    for zoom in np.linspace(1, 1 + growth, steps):
        total += _zoomed(_zoomed(images, zoom, 2), zoom, 3)
    return total / np.float32(steps)


def _zoomed(images: Pixels, zoom: float, axis: int) -> Pixels:
    """Enlarge images along one axis around their middle, with linear interpolation, and cut them to their size."""
    length = images.shape[axis]
    middle = (length - 1) / 2
    places = middle + (np.arange(length) - middle) / zoom
    low = np.minimum(places.astype(np.int64), length - 2)
    part = (places - low).astype(np.float32)
    weight = part[:, None] if axis == 2 else part
    lower, upper = np.take(images, low, axis), np.take(images, low + 1, axis)
    zoomed: Pixels = lower + weight * (upper - lower)
    return zoomed


def _sum_one(kernel: Floats) -> Floats:
    scaled: Floats = kernel / kernel.sum()
    return scaled
