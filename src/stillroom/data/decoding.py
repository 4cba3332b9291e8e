"""Decode image files into one array of RGB images, in threads; unreadable ones are reported."""

from __future__ import annotations

import io
import itertools
import os
import stat
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from stillroom.data.content_hash import NO_CONTENT, hash_bytes
from stillroom.data.image_store import Encoded
from stillroom.files import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

# The only formats that may be opened, whatever the suffix. Pillow's other readers run programs (Ghostscript for EPS) or
# are rarely used and so rarely tested against attacks.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")

_GROUP = 64  # images that a thread decodes at a time
_ROWS = 256  # rows of a 16-bit or floating-point image that are scaled at a time


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The decoded images of one split.

    Attributes:
        images: uint8 tensor (n, 3, H, W), the readable images in order.
        digests: int64 tensor (n,), the hash of each image's file.
        places: int64 array (n,), the index of each image in the listing.
        broken: indices of the unreadable images.
        reasons: why each of them cannot be read, in a few words.
        problem: why decoding stopped early (sizes that differ); empty if it did not.
    """

    images: Tensor
    digests: Tensor
    places: NDArray[np.int64]
    broken: tuple[int, ...]
    reasons: tuple[str, ...] = ()
    problem: str = ""


def decode_image(source: Encoded, image_size: int | None = None) -> tuple[NDArray[np.uint8], int]:
    """Decode one image and hash the bytes of its file.

    Grey, palette and CMYK images become RGB, transparency is ignored, and 16 bits are scaled to 8. An orientation in
    the metadata is applied. Of an animation the first frame is used.

    Args:
        source: a file or the bytes of one.
        image_size: side of the square to resize the shorter side to and crop from the centre; None leaves the
            image as it is.

    Returns:
        uint8 array (3, H, W), and the hash of the file.

    Raises:
        OSError: the image is broken, is not a regular file, or has so many pixels that it may be an attack. The message
            says which in a few words.
    """
    try:
        with open_image(source) as (file, image):
            pixels = _pixels(image, image_size)
            return pixels, hash_bytes(source if isinstance(source, bytes) else file)
    except Exception as error:  # a damaged file can make Pillow raise anything
        raise OSError(reason_of(error)) from error


@contextmanager
def open_image(source: Encoded) -> Iterator[tuple[IO[bytes], Image.Image]]:
    """Open an image of a permitted format: only the header is read.

    Raises:
        OSError: there is no image, or it is not in a regular file.
        Image.DecompressionBombError: it has so many pixels that it may be an attack.
    """
    if not source:
        raise OSError("empty")
    if isinstance(source, Path):
        check_file(source)
    with (
        source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file,
        Image.open(file, formats=FORMATS) as image,
    ):
        check_pixels(*image.size)
        yield file, image


def check_pixels(width: int, height: int) -> None:
    """Refuse a size from a header before the image is decoded.

    Raises:
        Image.DecompressionBombError: more pixels than Pillow's limit.
    """
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError


def _pixels(image: Image.Image, image_size: int | None) -> NDArray[np.uint8]:
    if image_size is not None:
        # JPEG can decode directly to a smaller size; twice the target keeps the resize accurate.
        image.draft("RGB", (2 * image_size, 2 * image_size))
    rgb = upright_rgb(image)
    if image_size is not None and rgb.size != (image_size, image_size):
        rgb = ImageOps.fit(rgb, (image_size, image_size), Image.Resampling.BICUBIC)
    return np.asarray(rgb).transpose(2, 0, 1)


def check_file(path: Path) -> None:
    """Refuse files that cannot be read or would block for ever: pipes and devices.

    Raises:
        OSError: saying in a few words what it is.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise OSError("a folder")
    if not stat.S_ISREG(found.st_mode):
        raise OSError("a pipe, socket or device")
    if found.st_size == 0:
        raise OSError("empty")


def reason_of(error: Exception) -> str:
    """Return in a few words why an image cannot be decoded."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return shown(str(error).strip().rstrip(".") or type(error).__name__, 60)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Decode an opened image to RGB and apply the orientation in its metadata.

    Raises:
        OSError: it has no pixels.
        Exception: of any type, where the file is damaged.
    """
    # The header of a JPEG tells whether it has metadata at all. In other formats they may follow the pixels.
    tagged = image.format not in ("JPEG", "MPO") or bool(image.info.keys() & {"exif", "xmp"})
    if tagged:
        image.load()
        with suppress(Exception):  # damaged metadata are ignored
            image = ImageOps.exif_transpose(image)
    rgb = _to_rgb(image)
    if 0 in rgb.size:
        raise OSError("no pixels")
    return rgb


def orientation_of(image: Image.Image) -> int:
    """Return the orientation in the metadata of an image of which only the header was read: 1 to 8, 1 if unknown."""
    with suppress(Exception):
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":  # 16 or 32 bits a pixel, or floating point: PIL clips instead of scaling
        values = np.asarray(image)
        # Only 16-bit modes define white; in others the brightest pixel tells which convention is used.
        limits = (65535.0,) if image.mode.startswith("I;16") else (1.0, 255.0, 65535.0)[image.mode == "I" :]
        brightest = np.nan_to_num(values).max(initial=0)
        white = next((limit for limit in limits if brightest <= limit), limits[-1])
        grey = np.empty(values.shape, dtype=np.uint8)
        for start in range(0, len(values), _ROWS):
            rows = np.nan_to_num(values[start : start + _ROWS].astype(np.float64))
            grey[start : start + _ROWS] = ((rows / white).clip(0, 1) * 255).round()
        return Image.fromarray(grey).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def size_of_first(chunks: Iterable[Sequence[Encoded]]) -> tuple[int, int] | None:
    """Return height and width of the first image with a readable header, or None if there is none."""
    with pillow_silent():
        for chunk in chunks:
            for source in chunk:
                with suppress(Exception):  # damage can raise anything; decoding reports it
                    if 0 not in (size := size_of_image(source)):
                        return size
    return None


def size_of_image(source: Encoded) -> tuple[int, int]:
    """Return height and width of an image, upright, from its header.

    Raises:
        OSError: it cannot be read.
    """
    with open_image(source) as (_, image):
        turned = image.format != "TIFF" and orientation_of(image) >= 5
        return image.size if turned else image.size[::-1]


def decode_all(
    chunks: Iterable[Sequence[Encoded]], count: int, size: tuple[int, int] | None, where: str, *, resize: bool
) -> Decoded:
    """Decode a split chunk by chunk, with one thread per core; each image is written directly into the result.

    Args:
        chunks: the images, in order; only one chunk is in memory at a time.
        count: number of images in all chunks.
        size: height and width of the images; None if not even one header can be read.
        where: name of the split, for messages.
        resize: whether to resize images to ``size``, which must then be square. Otherwise an image of another size ends
            decoding after its chunk, and the result's ``problem`` names both sizes.
    """
    images = np.empty((count, 3, *(size or (1, 1))), dtype=np.uint8)
    digests = np.full(count, NO_CONTENT, dtype=np.int64)
    broken: dict[int, str] = {}
    problem = ""
    place = 0

    def decode(start: int, group: Sequence[Encoded]) -> list[str | tuple[int, ...]]:
        return [into(start + offset, source) for offset, source in enumerate(group)]

    def into(place: int, source: Encoded) -> str | tuple[int, ...]:
        """Decode one image into its place; return its shape, or why it cannot be read."""
        try:
            image, digest = decode_image(source, images.shape[-1] if resize else None)
        except OSError as error:
            return str(error)
        if image.shape == images.shape[1:]:
            images[place], digests[place] = image, digest
        return image.shape

    with ThreadPoolExecutor(os.cpu_count()) as pool, pillow_silent():
        for chunk in chunks:
            starts = range(0, len(chunk), _GROUP)
            groups = [chunk[start : start + _GROUP] for start in starts]
            found = pool.map(decode, [place + start for start in starts], groups)
            for number, outcome in enumerate(itertools.chain.from_iterable(found), start=place):
                if isinstance(outcome, str):
                    broken[number] = outcome
                elif outcome != images.shape[1:]:
                    problem = problem or _two_sizes(where, images.shape[1:], outcome)
            place += len(chunk)
            if problem:
                break
    assert place == count or problem
    places = np.delete(np.arange(count), list(broken))
    move_to_front(images, places)
    return Decoded(
        torch.from_numpy(images[: len(places)]), torch.from_numpy(digests[places]), places, tuple(broken),
        tuple(broken.values()), problem,
    )  # fmt: skip


@contextmanager
def pillow_silent() -> Iterator[None]:
    """Silence Pillow's warnings about odd metadata and about decompression bombs, which are handled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def move_to_front(images: NDArray[np.uint8], places: NDArray[np.int64]) -> None:
    """Move the rows at ascending ``places`` to the front of an array in place: a copy would double the memory."""
    first = int((places == np.arange(len(places))).sum())  # rows before the first gap stay
    for start in range(first, len(places), _GROUP):
        images[start : min(start + _GROUP, len(places))] = images[places[start : start + _GROUP]]


def _two_sizes(where: str, first: tuple[int, ...], second: tuple[int, ...]) -> str:
    sizes = " and ".join(f"{shape[2]}x{shape[1]}" for shape in (first, second))
    return f"image_size is None but images of {where} differ in size ({sizes}); give image_size, such as 64"
