"""Validation split: choose the images to hold out, by a hash of their content."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def held_out(
    labels: NDArray[np.int64], digests: NDArray[np.int64], val_fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Choose the images to validate on, each by its content alone.

    An image is held out if a hash of (seed, content) is below ``val_fraction``. So the choice does not depend on its
    name, folder, class or the other images. Copies of an image are on the same side. A larger fraction holds out all
    images that a smaller one does.

    Every class of two or more images has at least one on each side: if none would be held out, the one with the
    smallest hash is; if all would, the one with the largest hash is not. Only this can change when other images are
    added or removed.

    Images without a label are not held out, unless no image has one.

    Args:
        labels: (n,); -1 for an image without a label.
        digests: (n,), content hashes from :func:`stillroom.data.content_hash.digest_of`.
        val_fraction: in (0, 1); about this fraction of the images is held out.
        seed: seed of the choice.

    Returns:
        (n,), whether each image is held out.
    """
    keys = _keys(digests, seed)
    chosen = keys < np.uint64(int(val_fraction * 2**64))
    if not len(labels):
        return chosen
    order = np.lexsort((keys, labels))
    if (labels >= 0).any():
        chosen &= labels >= 0
        order = order[labels[order] >= 0]
    ends = np.flatnonzero(np.diff(labels[order])) + 1
    chosen[order[np.concatenate(([0], ends)).astype(np.int64)]] = True
    chosen[order[np.concatenate((ends, [len(order)])).astype(np.int64) - 1]] = False
    return chosen


def stratified_part(
    labels: NDArray[np.int64], digests: NDArray[np.int64], fraction: float, seed: int = 1
) -> NDArray[np.bool_]:
    """Choose a fraction of each class, the images with the smallest hashes of (seed, content).

    Of two or more images of a class at least one is chosen and at least one is not. Copies of an image are on the same
    side. Images without a label are not chosen, unless no image has one; then all count as one class.

    Args:
        labels: (n,); -1 for an image without a label.
        digests: (n,), as for :func:`held_out`.
        fraction: in (0, 1).
        seed: of the choice; another one than that of a validation split, for an independent choice.

    Returns:
        (n,), whether each image is chosen.
    """
    keys, chosen = _keys(digests, seed), np.zeros(len(labels), dtype=bool)
    if not len(labels):
        return chosen
    order = np.argsort(labels, kind="stable")
    if (labels >= 0).any():
        order = order[labels[order] >= 0]
    for own in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        ranked = np.sort(keys[own])
        last = ranked[max(1, round(fraction * len(own))) - 1]
        chosen[own] = keys[own] <= last if last < ranked[-1] else keys[own] < last
    return chosen


def _keys(digests: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    return np.array([_key(digest, seed) for digest in digests.tolist()], dtype=np.uint64)


def _key(digest: int, seed: int) -> int:
    mixed = hashlib.blake2b(digest.to_bytes(8, "little", signed=True), digest_size=8, key=str(seed).encode()[:64])
    return int.from_bytes(mixed.digest(), "little")
