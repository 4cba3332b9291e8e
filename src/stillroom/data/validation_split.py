"""Which images of a set without a split of its own are held out for validation."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def held_out(
    labels: NDArray[np.int64], digests: NDArray[np.int64], val_fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Choose the images to validate on, each by its content alone.

    An image is held out where a hash of (seed, content) is below ``val_fraction``. So its side does not depend on its
    name, its place, its class or the images beside it, copies of an image lie on one side, and what a smaller fraction
    holds out, a larger one does, too.

    Every class of two or more images has at least one on each side: where none would be held out, it is the one with
    the smallest hash; where all would, the one with the largest stays. Only this may change when images come and go.

    Args:
        labels: (n,).
        digests: (n,), from :func:`stillroom.data.content_hash.digest_of`.
        val_fraction: in (0, 1); about this fraction of the images is held out.
        seed: another seed chooses others.

    Returns:
        (n,), whether each image is held out.
    """
    keys = np.array([_key(digest, seed) for digest in digests.tolist()], dtype=np.uint64)
    chosen = keys < np.uint64(int(val_fraction * 2**64))
    if not len(labels):
        return chosen
    order = np.lexsort((keys, labels))
    ends = np.flatnonzero(np.diff(labels[order])) + 1
    chosen[order[np.concatenate(([0], ends)).astype(np.int64)]] = True
    chosen[order[np.concatenate((ends, [len(order)])).astype(np.int64) - 1]] = False
    return chosen


def _key(digest: int, seed: int) -> int:
    mixed = hashlib.blake2b(digest.to_bytes(8, "little", signed=True), digest_size=8, key=str(seed).encode()[:64])
    return int.from_bytes(mixed.digest(), "little")
