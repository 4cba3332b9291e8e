"""Content hash of an image: 64 bits that do not depend on its name or folder."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import IO, TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

NO_CONTENT = 0  # hash of an image that could not be read

_hash = partial(hashlib.blake2b, digest_size=8)


def hash_bytes(content: bytes | memoryview | IO[bytes]) -> int:
    """Hash the bytes of an image file; an open file is read in blocks from its beginning.

    Returns:
        A signed 64-bit number.
    """
    if isinstance(content, (bytes, memoryview)):
        digest = _hash(content).digest()
    else:
        content.seek(0)
        digest = hashlib.file_digest(content, _hash).digest()  # type: ignore[arg-type]
    return int.from_bytes(digest, "little", signed=True)


def hash_images(images: Tensor) -> Tensor:
    """Hash the pixels of images in memory, about a gigabyte a second.

    Args:
        images: uint8 tensor (N, C, H, W) on the CPU.

    Returns:
        int64 tensor (N,).
    """
    pixels = images.contiguous().numpy()
    digests = b"".join(_hash(image).digest() for image in pixels)
    return torch.from_numpy(np.frombuffer(digests, dtype="<i8").astype(np.int64))
