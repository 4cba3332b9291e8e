"""Image sizes: height and width of every image of a set from the headers of its files, cached between runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stillroom.data.box_listing import in_threads
from stillroom.data.cache import cache_folder, write_cache
from stillroom.data.decoding import pillow_silent, size_of_image
from stillroom.data.set_index import SetIndex
from stillroom.fingerprint import tensors_digest

_VERSION = 1
_MANY = 10_000  # images from which on reading headers takes seconds


def image_sizes(
    root: Path,
    names: Sequence[str],
    index: SetIndex,
    *,
    cache: Path | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> NDArray[np.int64]:
    """Return height and width of each upright image, int64 (n, 2); 0 for an image that cannot be read.

    The cache is found by the content of all files, so it is never out of date. Only headers are read.

    Args:
        root: the folder of the set.
        names: of the images, relative to it.
        index: of the images.
        cache: the folder for derived data; None is the user's.
        say: is told what takes time.

    Raises:
        OSError: a file has vanished since it was indexed.
    """
    count = len(index.digests)
    digest = tensors_digest(torch.from_numpy(index.digests))
    path = cache_folder(cache) / "sizes" / f"{digest}-{_VERSION}.npy"
    with suppress(OSError, ValueError, EOFError):
        kept = np.load(path, allow_pickle=False)
        if kept.dtype == np.int64 and kept.shape == (count, 2) and kept.min(initial=0) >= 0:
            return np.asarray(kept, np.int64)
    if count >= _MANY:
        say(f"reading the sizes of {count:,} images")
    broken = frozenset(index.broken)
    with pillow_silent():
        found = list(
            in_threads(lambda place: (0, 0) if place in broken else size_of_image(root / names[place]), range(count))
        )
    sizes = np.asarray(found, np.int64).reshape(-1, 2)
    write_cache(path, lambda file: np.save(file, sizes, allow_pickle=False))
    return sizes
