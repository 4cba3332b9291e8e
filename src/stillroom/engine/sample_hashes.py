"""Hashes of the images that a run was trained on, kept in its folder."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stillroom.data import DataSet
from stillroom.data.source import Source
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError, first_line
from stillroom.files import write_atomically, write_failure
from stillroom.models.weight_files import read_safetensors
from stillroom.reading import UnreadableError

NAME = "samples.safetensors"
PARTS = ("train", "val", "before")

Hashes = NDArray[np.int64]


def write_samples(
    run: RunFolder, data: DataSet, earlier: Iterable[RunFolder], stop_images: Source | None = None
) -> None:
    """Record the hashes of a run's images, 8 bytes each: training, validation, and those of earlier runs.

    Args:
        run: its folder must exist.
        data: its images.
        earlier: the runs that its weights or its teacher come from. Their training images count as seen, too.
        stop_images: training images that are held out to judge the epochs. They count as trained on, for they choose
            the weights.

    Raises:
        InputError: it cannot be written.
    """
    from safetensors.numpy import save

    judging = () if stop_images is None else (stop_images.content().numpy(),)
    train, val = np.unique(np.concatenate([data.train.content().numpy(), *judging])), np.unique(data.val.content())
    seen = [found for other in earlier if (found := seen_by(other)) is not None]
    before = np.setdiff1d(np.concatenate(seen), train) if seen else np.zeros(0, dtype=np.int64)
    content = save(dict(zip(PARTS, (train, val, before), strict=True)), {"format": "1"})
    path = run.path / NAME
    try:
        write_atomically(path, lambda aside: aside.write_bytes(content))
    except OSError as error:
        raise write_failure(path, error, len(content)) from error


def samples_bytes(data: DataSet) -> int:
    """Approximate size of a run's record in bytes."""
    return 8 * 2 * (len(data.train) + len(data.val))


def seen_by(run: RunFolder) -> Hashes | None:
    """Return the hashes of all images that a run or its earlier runs were trained on; None without a record.

    Raises:
        InputError: the record is damaged.
    """
    path = run.path / NAME
    if not path.exists():
        return None
    try:
        tensors, _ = read_safetensors(path)
        parts = [tensors[name].numpy() for name in ("train", "before")]
    except (OSError, UnreadableError, KeyError, TypeError) as error:
        reason = error.reason if isinstance(error, UnreadableError) else first_line(error)
        raise InputError(f"{path} cannot be read ({reason}); remove it to continue without this check") from None
    if any(part.dtype != np.int64 or part.ndim != 1 for part in parts):
        raise InputError(f"{path} is not a list of image hashes; remove it to continue without this check")
    return np.concatenate(parts)
