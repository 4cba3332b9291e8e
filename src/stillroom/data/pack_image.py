"""Encode one image for a packed set: resized and compressed again, or its bytes as they are."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from stillroom.data.content_hash import hash_bytes
from stillroom.data.decoding import open_image, reason_of, upright_rgb
from stillroom.data.image_store import Encoded
from stillroom.errors import InputError


@dataclass(frozen=True, slots=True)
class PackSettings:
    """What decides about the bytes of a packed set.

    Attributes:
        size: the shorter side in pixels, >= 8; smaller images are not enlarged.
        quality: of the JPEG files, in [1, 100]; colour is stored at half the resolution (4:2:0).
        keep_bytes: whether images keep their bytes instead, whatever their size and format.
        shard_mb: size of a shard in megabytes, >= 1; about this much, estimated from a few images.
        class_depth: how many levels below the folder, or below its splits, the class folders are, >= 1.
    """

    size: int = 256
    quality: int = 90
    keep_bytes: bool = False
    shard_mb: int = 256
    class_depth: int = 1

    def check(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: naming the setting.
        """
        for name, value, least in (
            ("size", self.size, 8),
            ("quality", self.quality, 1),
            ("shard_mb", self.shard_mb, 1),
        ):
            if value < least:
                raise InputError(f"{name} is {value}; give {least} or more")
        if self.quality > 100:
            raise InputError(f"quality is {self.quality}; give 1 to 100")

    def record(self) -> Mapping[str, Any]:
        """Return the settings that have an effect, for the manifest."""
        unused = {"size", "quality"} if self.keep_bytes else set()
        return {name: value for name, value in asdict(self).items() if name not in unused}


class PackedImage(NamedTuple):
    """An image of a packed set.

    Attributes:
        encoded: its bytes.
        content: content hash of the original file.
    """

    encoded: bytes
    content: int


def pack_image(source: Encoded, settings: PackSettings) -> PackedImage:
    """Encode one image.

    The shorter side is resized to ``settings.size`` with Pillow's bicubic filter, which is antialiased. A JPEG file of
    more than four times that side is decoded at a half, a quarter or an eighth first, but never below twice the size.
    Orientation is applied, and every image becomes RGB. Other metadata is dropped.

    Raises:
        OSError: the image cannot be read; the message says why in a few words.
    """
    try:
        content = source.read_bytes() if isinstance(source, Path) and source.is_file() else source
        with open_image(content) as (_, image):
            if not settings.keep_bytes:
                image.draft("RGB", (2 * settings.size, 2 * settings.size))
            rgb = upright_rgb(image)  # decodes, so that damage is found now
            assert isinstance(content, bytes)
            encoded = content if settings.keep_bytes else _jpeg(_shorter_side(rgb, settings.size), settings.quality)
            return PackedImage(encoded, hash_bytes(content))
    except Exception as error:  # a damaged file can make Pillow raise anything
        raise OSError(reason_of(error)) from error


def _shorter_side(image: Image.Image, size: int) -> Image.Image:
    short = min(image.size)
    if short <= size:
        return image
    width, height = (max(size, round(side * size / short)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return file.getvalue()
