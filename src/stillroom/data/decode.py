"""Picture files become arrays: decoded in threads, made RGB, brought to one size, broken ones reported."""

from __future__ import annotations

import io
import itertools
import os
import stat
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from stillroom.data.report import first_few
from stillroom.errors import InputError
from stillroom.files import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

Source = Path | bytes | None  # None: the set names a picture but does not hold it

_SPARE = 0.8  # share of the free memory a set may take: batches, models and the rest live there too
_GROUP = 64  # pictures a thread takes at a time
_ROWS = 256  # of a picture of numbers, scaled at a time


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The pictures of one split.

    Attributes:
        images: uint8 tensor (n, 3, H, W), the readable pictures in their order.
        places: int64 array (n,), the place of each in the split as it was listed.
        broken: places of the unreadable ones.
        reasons: why each of them cannot be read, in a few words.
        complaint: why decoding stopped before the end: sizes that differ; empty when it did not.
    """

    images: Tensor
    places: NDArray[np.int64]
    broken: tuple[int, ...]
    reasons: tuple[str, ...] = ()
    complaint: str = ""


def decode_picture(source: Source, image_size: int | None = None) -> NDArray[np.uint8]:
    """Decode one picture.

    Grey, palette and CMYK pictures become RGB, transparency is ignored, 16 bits are scaled to 8, and of an
    animation the first frame is taken.

    Args:
        source: a file or the bytes of one.
        image_size: side of the square to resize the shorter side to and cut from the centre; None leaves the
            picture as it is.

    Returns:
        uint8 array (3, H, W).

    Raises:
        OSError: the picture is broken, is no ordinary file, or has so many pixels that it looks like an attack.
            The message says which in a few words.
    """
    try:
        return _decode(source, image_size)
    except Exception as error:  # a damaged file can lead PIL's readers to raise anything
        raise OSError(_reason(error)) from error


def _decode(source: Source, image_size: int | None) -> NDArray[np.uint8]:
    if not source:
        raise OSError("empty")
    if isinstance(source, Path):
        _check_file(source)
    with Image.open(source if isinstance(source, Path) else io.BytesIO(source)) as image:
        if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError
        if image_size is not None:
            # JPEG decodes straight to a smaller size; twice the target keeps the resize clean.
            image.draft("RGB", (2 * image_size, 2 * image_size))
        picture = _to_rgb(image)
        if 0 in picture.size:
            raise OSError("no pixels")
        if image_size is not None and picture.size != (image_size, image_size):
            picture = ImageOps.fit(picture, (image_size, image_size), Image.Resampling.BICUBIC)
        return np.asarray(picture).transpose(2, 0, 1)


def _check_file(path: Path) -> None:
    """Refuse what cannot be read, and what would block for ever: pipes and devices."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise OSError("a folder")
    if not stat.S_ISREG(found.st_mode):
        raise OSError("a pipe, socket or device")
    if found.st_size == 0:
        raise OSError("empty")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture"
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    if isinstance(error, FileNotFoundError):
        return "not there"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return shown(str(error).strip().rstrip(".") or type(error).__name__, 60)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":  # 16 or 32 bits a pixel, or floating point: PIL would clip instead of scaling
        values = np.asarray(image)
        # Only 16-bit modes say what white is; elsewhere the brightest pixel tells which convention was meant.
        limits = (65535.0,) if image.mode.startswith("I;16") else (1.0, 255.0, 65535.0)[image.mode == "I" :]
        brightest = np.nan_to_num(values).max(initial=0)
        white = next((limit for limit in limits if brightest <= limit), limits[-1])
        grey = np.empty(values.shape, dtype=np.uint8)
        for start in range(0, len(values), _ROWS):
            rows = np.nan_to_num(values[start : start + _ROWS].astype(np.float64))
            grey[start : start + _ROWS] = ((rows / white).clip(0, 1) * 255).round()
        return Image.fromarray(grey).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def decode_all(chunks: Iterable[Sequence[Source]], count: int, image_size: int | None, where: str) -> Decoded:
    """Decode a split, a chunk at a time, in as many threads as there are cores.

    Args:
        chunks: the pictures, in order; not more than one chunk is held at a time.
        count: how many pictures there are in all.
        image_size: as in :func:`decode_picture`; None asks that all have one size.
        where: the split, as messages shall call it.

    Raises:
        InputError: the set does not fit into memory. Sizes that differ, where none was asked for, end decoding
            after the chunk and stand in the result's ``complaint``.
    """
    images: NDArray[np.uint8] | None = None
    broken: dict[int, str] = {}
    complaint = ""
    place = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL warns about odd metadata and bombs; the latter are handled
        for chunk in chunks:
            groups = [chunk[start : start + _GROUP] for start in range(0, len(chunk), _GROUP)]
            decoded = pool.map(lambda group: [_try(source, image_size) for source in group], groups)
            for picture in itertools.chain.from_iterable(decoded):
                if isinstance(picture, str):
                    broken[place] = picture
                elif images is None:
                    check_memory(count * picture.size, f"{count} pictures of {where}")
                    images = np.empty((count, *picture.shape), dtype=np.uint8)
                    images[place] = picture
                elif picture.shape == images.shape[1:]:
                    images[place] = picture
                elif not complaint:
                    complaint = _two_sizes(where, images.shape[1:], picture.shape)
                place += 1
            if complaint:
                break
    assert place == count or complaint
    places = np.delete(np.arange(count), list(broken))
    if images is None:
        images = np.empty((0, 3, image_size or 1, image_size or 1), dtype=np.uint8)
    readable = torch.from_numpy(images[places] if broken and len(images) else images)
    return Decoded(readable, places, tuple(broken), tuple(broken.values()), complaint)


def _try(source: Source, image_size: int | None) -> NDArray[np.uint8] | str:
    """Return the picture, or why there is none."""
    try:
        return decode_picture(source, image_size)
    except OSError as error:
        return str(error)


def _two_sizes(where: str, first: tuple[int, ...], second: tuple[int, ...]) -> str:
    sizes = " and ".join(f"{shape[2]}x{shape[1]}" for shape in (first, second))
    return f"image_size is None but pictures of {where} differ in size ({sizes}); give image_size, such as 64"


def check_memory(needed: int, what: str) -> None:
    """Refuse a set that would not fit into memory.

    Args:
        needed: bytes.
        what: what needs them, for the message.

    Raises:
        InputError: more is needed than is free.
    """
    free = psutil.virtual_memory().available * _SPARE
    if needed > free:
        raise InputError(
            f"{what} need {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB can be used; "
            "lower image_size, or keep fewer classes or pictures in the folder"
        )


def check_broken(broken: Sequence[str], total: int, skip_broken: float, reasons: Sequence[str] = ()) -> None:
    """Refuse a set with more unreadable pictures than allowed.

    Args:
        broken: paths or rows of the unreadable pictures.
        total: how many pictures there are, the broken ones among them.
        skip_broken: the share of broken ones to put up with, in [0, 1].
        reasons: why each cannot be read, for the message.

    Raises:
        InputError: more than that share is broken.
    """
    if len(broken) <= skip_broken * total:
        return
    told = [f"{shown(name)} ({reason})" for name, reason in zip(broken, reasons, strict=True)] if reasons else broken
    skip = f", or skip them with skip_broken={len(broken) / total + 0.0005:.3f}" if 2 * len(broken) <= total else ""
    raise InputError(
        f"{len(broken)} of {total} pictures cannot be read: {first_few(told)}; repair or remove them{skip}"
    )


def resize_all(images: Tensor, image_size: int) -> Tensor:
    """Resize pictures that are in memory already.

    Args:
        images: uint8 tensor (N, C, H, W), square.
        image_size: the new side.

    Returns:
        uint8 tensor (N, C, image_size, image_size).
    """
    if images.shape[-1] == image_size:
        return images
    check_memory(len(images) * images.shape[1] * image_size**2, f"{len(images)} pictures")
    size = (image_size, image_size)
    resized = [
        F.interpolate(part.float(), size=size, mode="bicubic", antialias=True).round().clamp(0, 255).to(torch.uint8)
        for part in torch.split(images, 1024)
    ]
    return torch.cat(resized)
