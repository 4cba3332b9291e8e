"""Image fields: what corruptions are made of: strengths, scales, kernels, random fields, interpolation.

All of it computes each image by itself, element by element or in a loop over images, so the numbers of an image do not
depend on the other images of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]  # images (n, C, H, W) with values in [0, 1]
Floats = NDArray[np.float32]
Draws = Sequence[np.random.Generator]  # one generator for each image

SEVERITIES = (1, 2, 3, 4, 5)
_USUAL_SIDE = 32
_LARGEST_SCALE = 4.0  # reached by a side of 512 pixels


def strength(mild: float, severe: float, severity: int) -> float:
    """The value of a parameter at a severity: ``mild`` at 1, ``severe`` at 5, in equal ratios between."""
    return float(mild * (severe / mild) ** ((severity - 1) / (SEVERITIES[-1] - 1)))


def shorter_side(images: Pixels) -> int:
    """The shorter side in pixels. Lengths such as the radius of a blur are fractions of it."""
    return min(int(images.shape[2]), int(images.shape[3]))


def detail_scale(images: Pixels) -> float:
    """The square root of the side over 32, for what acts on single pixels: noise, pixelation, compression.

    The same noise in each pixel hurts a large image less, as a network averages over more pixels. Noise that grows with
    the side would hurt it more, as most of what a network sees is coarser than a pixel. The square root is between.
    """
    return min(math.sqrt(shorter_side(images) / _USUAL_SIDE), _LARGEST_SCALE)


def stroke(length: float, radius: float, angle: float) -> Floats:
    """The pixels that a round brush covers when it is drawn along a straight line: a disc for length 0.

    Args:
        length: of the line in pixels.
        radius: of the brush in pixels.
        angle: of the line in radians, from the horizontal.

    Returns:
        Covered fraction of each pixel, float32 (side, side) with an odd side that does not depend on the angle; the
        middle of the line is the middle pixel.
    """
    reach = math.ceil(length / 2 + radius)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = columns * math.cos(angle) + rows * math.sin(angle)
    across = rows * math.cos(angle) - columns * math.sin(angle)
    distance = np.hypot(across, np.maximum(np.abs(along) - length / 2, 0))
    covered: Floats = (np.clip(radius + 0.5 - distance, 0, 1) * min(1.0, 2 * radius)).astype(np.float32)
    return covered


def gaussian(deviation: float) -> Floats:
    """A Gaussian kernel with sum 1, float32 (side, side) with an odd side."""
    reach = max(1, math.ceil(3 * deviation))
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    kernel: Floats = (np.outer(line, line) / line.sum() ** 2).astype(np.float32)
    return kernel


def convolved(images: Floats, kernels: Sequence[Floats]) -> Floats:
    """Convolve each image with its kernel; images are mirrored at their edges.

    Args:
        images: float32 (n, C, H, W).
        kernels: n kernels, or one for all images; of one shape (side, side) with an odd side.
    """
    margin = kernels[0].shape[0] // 2
    padded = np.pad(images, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="symmetric")
    size = tuple(-(-length // 8) * 8 for length in padded.shape[2:])  # transforms of such lengths are fast
    spectra = [np.fft.rfft2(kernel, size) for kernel in kernels]
    result = np.empty_like(images)
    height, width = images.shape[2:]
    for place, image in enumerate(padded):
        spectrum = np.fft.rfft2(image, size) * spectra[place % len(spectra)]
        whole = np.fft.irfft2(spectrum, size)
        result[place] = whole[:, 2 * margin : 2 * margin + height, 2 * margin : 2 * margin + width]
    return result


def enlarged(grids: Floats, height: int, width: int) -> Floats:
    """Enlarge random grids to smooth fields.

    Args:
        grids: float32 (..., rows, columns), at least 2 each.
        height: of the result.
        width: of the result.
    """
    for axis, length in ((-2, height), (-1, width)):
        places = np.linspace(0, grids.shape[axis] - 1, length)
        low = np.minimum(places.astype(np.int64), grids.shape[axis] - 2)
        part = (places - low).astype(np.float32)
        part = part * part * (3 - 2 * part)  # no creases at the grid's lines
        weight = part[:, None] if axis == -2 else part
        lower, upper = np.take(grids, low, axis), np.take(grids, low + 1, axis)
        grids = lower + weight * (upper - lower)
    return grids


def clouds(draws: Draws, height: int, width: int) -> Floats:
    """Random fields with 1/f detail, float32 (n, H, W) with mean near 0 and values mostly in [-1, 1]."""
    field = np.zeros((len(draws), height, width), np.float32)
    cells, weight = 2, np.float32(1)
    while cells <= max(2, min(height, width) // 2):
        grids = np.stack([draw.random((cells + 1, cells + 1), np.float32) for draw in draws])
        field += weight * (2 * enlarged(grids, height, width) - 1)
        cells, weight = 2 * cells, weight * np.float32(0.6)
    return field


def read_at(images: Pixels, rows: Floats, columns: Floats) -> Pixels:
    """Read images at real positions, with bilinear interpolation; images are mirrored at their edges.

    Args:
        images: float32 (n, C, H, W).
        rows: float32 (n, H, W), 0 is the middle of the first row.
        columns: float32 (n, H, W).
    """
    height, width = images.shape[2:]
    low_row, low_column = np.floor(rows), np.floor(columns)
    down, right = (rows - low_row)[:, None], (columns - low_column)[:, None]
    upper, lower = (mirrored(low_row.astype(np.int64) + step, height) for step in (0, 1))
    left, next_column = (mirrored(low_column.astype(np.int64) + step, width) for step in (0, 1))
    top = (1 - right) * pixels_at(images, upper, left) + right * pixels_at(images, upper, next_column)
    bottom = (1 - right) * pixels_at(images, lower, left) + right * pixels_at(images, lower, next_column)
    read: Pixels = (1 - down) * top + down * bottom
    return read


def pixels_at(images: Pixels, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Pixels:
    """The pixels of images at whole positions, each int64 (n, H, W) inside the image."""
    count, channels, height, width = images.shape
    places = (rows * width + columns).reshape(count, 1, -1)
    picked: Pixels = np.take_along_axis(images.reshape(count, channels, -1), places, axis=2)
    return picked.reshape(count, channels, height, width)


def mirrored(places: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Positions outside [0, length) as those of the mirrored image."""
    wrapped = places % (2 * length)
    return np.minimum(wrapped, 2 * length - 1 - wrapped)
