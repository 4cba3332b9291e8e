"""Digital corruptions: brightness, contrast, elastic transform, pixelation and JPEG compression.

After Hendrycks and Dietterich, ICLR 2019, who count brightness as weather; strengths of our own.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stillroom.probe.image_fields import Draws, Floats, Pixels, detail_scale, enlarged, read_at, shorter_side, strength

_CELLS = 5  # of the grid of random shifts, along each side


def brightness(images: Pixels, draws: Draws, severity: int) -> Pixels:  # noqa: ARG001
    """Raise the value of each pixel (its largest channel) by 0.12 to 0.5; hue and saturation stay."""
    more = np.float32(strength(0.12, 0.5, severity))
    value = images.max(axis=1, keepdims=True)
    raised = np.minimum(value + more, 1)
    brighter: Pixels = np.where(value > 0, images / np.maximum(value, np.float32(1e-6)) * raised, raised)
    return brighter


def lower_contrast(images: Pixels, draws: Draws, severity: int) -> Pixels:  # noqa: ARG001
    """Move all values towards the image's mean; 75 to 20 percent of the distance is left."""
    left = np.float32(strength(0.75, 0.2, severity))
    # Summed as whole numbers, which is exact for any layout of the batch.
    sums = np.rint(images * 255).astype(np.int64).sum(axis=(1, 2, 3), keepdims=True)
    mean = (sums / (255 * images[0].size)).astype(np.float32)
    flatter: Pixels = mean + left * (images - mean)
    return flatter


def elastic_transform(images: Pixels, draws: Draws, severity: int) -> Pixels:
    """Stretch and press small regions: smooth random shifts with a deviation of 2 to 6.5 percent of the side."""
    height, width = images.shape[2:]
    grids = np.stack([draw.standard_normal((2, _CELLS + 1, _CELLS + 1), np.float32) for draw in draws])
    shifts = enlarged(grids, height, width) * np.float32(strength(0.02, 0.065, severity) * shorter_side(images))
    rows = shifts[:, 0] + _count(height)[:, None]
    columns = shifts[:, 1] + _count(width)
    return read_at(images, rows, columns)


def pixelate(images: Pixels, draws: Draws, severity: int) -> Pixels:  # noqa: ARG001
    """Reduce the image and enlarge it again without smoothing; 70 to 30 percent of 32 pixels a side are left."""
    left = strength(0.7, 0.3, severity) / detail_scale(images)
    height, width = images.shape[2:]
    small = (max(1, round(width * left)), max(1, round(height * left)))

    def changed(image: Image.Image) -> Image.Image:
        return image.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.NEAREST)

    return _as_pixels([np.asarray(changed(Image.fromarray(image))) for image in _as_bytes(images)])


def jpeg_compression(images: Pixels, draws: Draws, severity: int) -> Pixels:  # noqa: ARG001
    """Write the image as JPEG and read it again; the quality is 45 to 15 at a side of 32."""
    # Not 50: images that were stored at quality 75, as is usual, lose most there, since each step is twice as large.
    quality = max(1, round(strength(45, 15, severity) / detail_scale(images)))

    def changed(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, subsampling="4:2:0")  # colour at half the resolution, as usual
        return Image.open(file)

    return _as_pixels([np.asarray(changed(Image.fromarray(image))) for image in _as_bytes(images)])


def _count(length: int) -> Floats:
    return np.arange(length).astype(np.float32)


def _as_bytes(images: Pixels) -> NDArray[np.uint8]:
    """Images as uint8 (n, H, W, 3), or (n, H, W) for one channel."""
    levels = np.rint(images * 255).astype(np.uint8)
    return levels[:, 0] if levels.shape[1] == 1 else np.ascontiguousarray(levels.transpose(0, 2, 3, 1))


def _as_pixels(images: list[NDArray[np.uint8]]) -> Pixels:
    """Images (H, W) or (H, W, 3) as float32 (n, C, H, W)."""
    whole = np.stack([image[..., None] if image.ndim == 2 else image for image in images])
    return whole.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
