"""Small images as data URIs: no files beside the page, and few bytes in it."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

HEAT_COLOURS = "viridis"  # rises in lightness, so it reads in grey and for the colour-blind
CAM_COLOURS = "plasma"
CAM_LEVELS = 32
CAM_SIDE = 32
CAM_OPACITY = 0.8
LONGEST_SIDE = 96
LONGEST_PHOTO = 400


def png_uri(image: Image.Image, **options: object) -> str:
    """An image as a PNG data URI; options go to Pillow's PNG writer."""
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def image_uri(image: Tensor, longest: int = LONGEST_SIDE) -> str:
    """An image as a PNG data URI; larger ones are reduced.

    Args:
        image: uint8 (channels, H, W). One channel is grey, three are colours, any other number becomes its mean.
        longest: pixels of the longer side, at most.
    """
    if image.shape[0] not in (1, 3):
        image = image.float().mean(0, keepdim=True).round().to(torch.uint8)
    drawn = Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy())
    drawn.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return png_uri(drawn)


def photo_uri(image: Tensor, longest: int = LONGEST_PHOTO) -> str:
    """An image as a JPEG data URI, a tenth of the bytes of a PNG; larger ones are reduced.

    Args:
        image: uint8 (3, H, W).
        longest: pixels of the longer side, at most.
    """
    drawn = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    drawn.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    drawn.save(out, format="JPEG", quality=85, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def heat_uri(values: Tensor, high: float) -> str:
    """A matrix as a heat map, one pixel an entry, as a PNG data URI.

    Args:
        values: (H, W), >= 0; what is above ``high`` gets the last colour.
        high: where the colour scale ends; it begins at 0. Colours follow the square root, so that methods which all are
            near 0 beside one that is not can still be told apart.
    """
    scaled = (values.double() / high).clamp(0, 1).sqrt() if high > 0 else torch.zeros_like(values)
    image = Image.fromarray((255 * scaled).round().to(torch.uint8).numpy())
    image.putpalette(_palette(HEAT_COLOURS, 256).tobytes())
    return png_uri(image)


def scale_uri() -> str:
    """The colours of :func:`heat_uri` as a PNG data URI of 256 x 1 pixels: 0 at the left, growing evenly to the end."""
    return heat_uri(torch.arange(256.0)[None], 255.0)


def cam_uri(activation: Tensor) -> str:
    """A class-activation map as a see-through PNG data URI, to be stretched over its image.

    Args:
        activation: (h, w), from 0 (clear) to 1 (strongest colour).
    """
    smooth = F.interpolate(activation[None, None].float(), (CAM_SIDE, CAM_SIDE), mode="bilinear")[0, 0]
    levels = (smooth.clamp(0, 1) * (CAM_LEVELS - 1)).round().to(torch.uint8)
    image = Image.fromarray(levels.numpy())
    image.putpalette(_palette(CAM_COLOURS, CAM_LEVELS).tobytes())
    opacities = (255 * CAM_OPACITY * np.linspace(0, 1, CAM_LEVELS)).round().astype(np.uint8)
    return png_uri(image, transparency=opacities.tobytes())


def _palette(name: str, colours: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    from matplotlib import colormaps

    colour = colormaps[name](np.linspace(0, 1, colours))[:, :3]
    return np.asarray((255 * colour).round(), dtype=np.uint8)
