"""Framing: decode one encoded image and cut out its views at the size of the batches.

It runs in the worker processes of a loader. simplejpeg (libjpeg-turbo) decodes JPEGs to the same pixels as
Pillow. Pillow decodes the rest, and decides about files that strict decoding refuses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stillroom.data.augment import RATIO
from stillroom.data.decoding import (
    check_file,
    check_pixels,
    decode_image,
    open_image,
    orientation_of,
    reason_of,
    upright_rgb,
)
from stillroom.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from stillroom.data.image_store import Encoded

_KEPT = 2**26  # bytes; a larger decoded image is not kept for the next one
_COLOURS = ("Gray", "RGB", "YCbCr")  # of JPEGs that simplejpeg decodes as Pillow does
_here = local()


@dataclass(frozen=True, slots=True)
class Framing:
    """How views are cut from decoded images.

    Attributes:
        size: side of the square views in pixels; None for the image's own height and width.
        min_scale: in (0, 1]; smallest area of a random crop as a fraction of the whole image; 1 is off.
        crop_fraction: in (0, 1]; without a random crop, the fraction of the shorter side that the central square has;
            the published evaluation has 0.875 (256 to 224 pixels). 1 decodes as :func:`decode_image` does.
        scaled_decoding: decode a JPEG at 1/2, 1/4 or 1/8 of its size where its crops still have ``size`` pixels each
            way: faster, with slightly different pixels.

    Raises:
        InputError: a value outside its range, or one that needs a size.
    """

    size: int | None
    min_scale: float = 1.0
    crop_fraction: float = 1.0
    scaled_decoding: bool = False

    def __post_init__(self) -> None:
        for name, value in (("min_scale", self.min_scale), ("crop_fraction", self.crop_fraction)):
            if not 0 < value <= 1:
                raise InputError(f"{name} is {value}; give a fraction above 0 and up to 1 (off)")
        if self.size is None and self.crop_fraction < 1:
            raise InputError(f"crop_fraction is {self.crop_fraction} without image_size; give image_size, such as 224")
        if self.size is None and self.scaled_decoding:
            raise InputError("scaled_decoding is True without image_size; give image_size, such as 224")


def decode_framed(
    encoded: Encoded, framing: Framing, draws: NDArray[np.float64] | None = None, out: Tensor | None = None
) -> Tensor:
    """Decode one image once and make its views.

    A random crop is taken from the whole image, as torchvision's RandomResizedCrop takes it but for crops that do not
    fit, which are never drawn. It is resized by bilinear interpolation with antialiasing, in 8 bits, as torchvision
    resizes a uint8 tensor. The central square of ``crop_fraction`` is torchvision's Resize and CenterCrop.

    Args:
        encoded: an image file or the bytes of one.
        framing: how the views are cut.
        draws: float64 (views, 4) in [0, 1): area, aspect ratio, row and column of each random crop, as
            :func:`stillroom.data.augment.crop_draws` gives them. None gives one view without a random crop; so does
            each row where ``min_scale`` is 1.
        out: uint8 (views, 3, H, W) to write to, in any memory format; channels-last is fastest.

    Returns:
        uint8 (views, 3, size, size): ``out``, or a tensor in channels-last format.

    Raises:
        OSError: the image is broken, as for :func:`decode_image`.
        ValueError: ``out`` has another size than the views.
    """
    try:
        if draws is not None and framing.min_scale < 1:
            return _random_crops(encoded, framing, draws, out)
        if framing.crop_fraction < 1 and framing.size is not None:
            view = _central_crop(encoded, framing.size, framing)
        else:
            view = decode_image(encoded, framing.size)[0]
    except Exception as error:  # a damaged file can make Pillow raise anything
        raise OSError(reason_of(error)) from error
    out = _room(out, 1 if draws is None else len(draws), view.shape[1], view.shape[2])
    out.numpy()[:] = view
    return out


def decode_resized(encoded: Encoded, own: tuple[int, int], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode one image and resize all of it, by bilinear interpolation with antialiasing in 8 bits.

    Args:
        encoded: an image file or the bytes of one.
        own: height and width that the upright image must have.
        size: height and width of the result.

    Returns:
        uint8 (height, width, 3), valid until the next image is decoded in this thread.

    Raises:
        OSError: the image is broken, as for :func:`decode_image`.
        ValueError: the image has another height and width; the message has both.
    """
    try:
        pixels = _decode(encoded, None)
    except Exception as error:  # a damaged file can make Pillow raise anything
        raise OSError(reason_of(error)) from error
    found = pixels.shape[:2]
    if found != own:
        raise ValueError(f"{found[1]}x{found[0]} pixels and not {own[1]}x{own[0]}")
    if size == own:
        return pixels
    count = size[0] * size[1] * 3
    resized = _buffer("resized", count)[:count].reshape(*size, 3)
    _resize(pixels, torch.from_numpy(resized).permute(2, 0, 1).unsqueeze(0))
    return resized


def _random_crops(encoded: Encoded, framing: Framing, draws: NDArray[np.float64], out: Tensor | None) -> Tensor:
    rows, scale, side = draws.tolist(), framing.min_scale, framing.size

    def reduced(height: int, width: int) -> int:
        return _factor(min(min(crop_box(scale, row, height, width)[2:]) for row in rows) / (side or math.inf))

    pixels = _decode(encoded, reduced if framing.scaled_decoding else None)
    height, width, _ = pixels.shape
    out = _room(out, len(rows), side or height, side or width)
    for number, row in enumerate(rows):
        top, left, box_height, box_width = crop_box(scale, row, height, width)
        _resize(_cut_out(pixels, top, left, box_height, box_width), out[number : number + 1])
    return out


def _central_crop(encoded: Encoded, side: int, framing: Framing) -> NDArray[np.uint8]:
    short = max(side, round(side / framing.crop_fraction))
    scaled = framing.scaled_decoding
    pixels = _decode(encoded, (lambda height, width: _factor(min(height, width) / short)) if scaled else None)
    height, width, _ = pixels.shape
    target = (short, int(short * width / height)) if height <= width else (int(short * height / width), short)
    resized = _room(None, 1, *target)
    _resize(pixels, resized)
    top, left = (round((length - side) / 2) for length in target)
    return resized[0, :, top : top + side, left : left + side].numpy()


def crop_box(min_scale: float, draws: list[float], height: int, width: int) -> tuple[int, int, int, int]:
    """Return a random crop of an image as top, left, height and width in whole pixels.

    Equal to :func:`stillroom.data.augment.crop_boxes` for one image, and ten times as fast.

    Args:
        min_scale: in (0, 1]; smallest area as a fraction of the image.
        draws: four numbers in [0, 1).
        height: of the image.
        width: of the image.
    """
    area = min_scale + draws[0] * (1 - min_scale)
    low = math.log(max(RATIO[0], area * width / height))
    high = math.log(min(RATIO[1], width / (height * area)))
    ratio = math.exp(low + draws[1] * (max(high, low) - low))
    rows = min(max(round(math.sqrt(area * height * width / ratio)), 1), height)
    columns = min(max(round(math.sqrt(area * height * width * ratio)), 1), width)
    return int(draws[2] * (height - rows + 1)), int(draws[3] * (width - columns + 1)), rows, columns


def _factor(room: float) -> int:
    """The largest of 8, 4, 2 and 1 by which an image may become smaller that is ``room`` times as large as needed."""
    return next((factor for factor in (8, 4, 2) if factor <= room), 1)


def _room(out: Tensor | None, views: int, height: int, width: int) -> Tensor:
    shape = (views, 3, height, width)
    if out is None:
        return torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
    if out.shape != shape:
        raise ValueError(f"out has shape {tuple(out.shape)}; give {shape}")
    return out


def _cut_out(pixels: NDArray[np.uint8], top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
    """Copy a crop out of an image into memory that is used again: PyTorch copies it far more slowly than rows are."""
    crop = _buffer("crop", height * width * 3)[: height * width * 3].reshape(height, width, 3)
    np.copyto(crop, pixels[top : top + height, left : left + width])
    return crop


def _resize(pixels: NDArray[np.uint8], out: Tensor) -> None:
    """Resize (H, W, 3) into (1, 3, height, width). The public F.interpolate cannot write into a tensor."""
    view = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)
    torch.ops.aten._upsample_bilinear2d_aa.out(view, out.shape[2:], False, out=out)


def _decode(encoded: Encoded, reduced: Callable[[int, int], int] | None) -> NDArray[np.uint8]:
    """Decode to (H, W, 3). The array is valid until the next image is decoded in this thread.

    Args:
        encoded: the image.
        reduced: (height, width) -> 1, 2, 4 or 8, by which a JPEG is decoded smaller; None decodes it whole.
    """
    if isinstance(encoded, Path):
        check_file(encoded)
        encoded = encoded.read_bytes()
    if encoded and encoded[:2] == b"\xff\xd8":
        pixels = _decode_upright_jpeg(encoded, reduced)
        if pixels is not None:
            return pixels
    with open_image(encoded) as (_, image):
        if reduced is not None and image.format in ("JPEG", "MPO"):
            turned = orientation_of(image) >= 5
            factor = reduced(*(image.size if turned else image.size[::-1]))
            image.draft("RGB", (image.width // factor, image.height // factor))
        return np.array(upright_rgb(image))  # a copy, which torch may write to


def _decode_upright_jpeg(encoded: bytes, reduced: Callable[[int, int], int] | None) -> NDArray[np.uint8] | None:
    """Decode a JPEG with simplejpeg; None where Pillow has to: CMYK, an orientation, damage, or no simplejpeg."""
    decoder = _simplejpeg()
    if decoder is None or _has_orientation(encoded):
        return None
    try:
        height, width, colours, _ = decoder.decode_jpeg_header(encoded)
        check_pixels(width, height)
        if colours not in _COLOURS:
            return None
        least = {}
        if reduced is not None and (factor := reduced(height, width)) > 1:
            height, width = -(-height // factor), -(-width // factor)
            least = {"min_height": height, "min_width": width}
        pixels: NDArray[np.uint8] = decoder.decode_jpeg(encoded, buffer=_buffer("image", height * width * 3), **least)
    except ValueError:
        return None
    return pixels


def _has_orientation(encoded: bytes) -> bool:
    """Whether a JPEG is to be turned or mirrored, or may be, because its segments are damaged."""
    place = 2
    while encoded[place : place + 1] == b"\xff":
        marker = encoded[place + 1 : place + 2]
        if marker == b"\xe1":  # Exif or XMP
            with open_image(encoded) as (_, image):
                return orientation_of(image) != 1
        if marker == b"\xda":  # the pixels
            return False
        place += 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
    return True


def _buffer(name: str, size: int) -> NDArray[np.uint8]:
    """Return ``size`` bytes or more, the same ones as for the image before: fresh memory costs page faults."""
    kept: NDArray[np.uint8] | None = getattr(_here, name, None)
    if kept is None or kept.size < size:
        kept = np.empty(size, dtype=np.uint8)
        if size <= _KEPT:
            setattr(_here, name, kept)
    return kept


@cache
def _simplejpeg() -> Any:
    """The module, or None where it is not installed: Pillow decodes the same pixels, more slowly."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg
