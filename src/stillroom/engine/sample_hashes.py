"""Which images a run was trained on, kept in its folder: a hash of each image's content."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stillroom.data import DataSet
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError, first_line
from stillroom.files import write_atomically, write_failure
from stillroom.models.weight_files import read_safetensors
from stillroom.reading import UnreadableError

NAME = "samples.safetensors"
PARTS = ("train", "val", "before")

Hashes = NDArray[np.int64]


def write_samples(run: RunFolder, data: DataSet, earlier: Iterable[RunFolder]) -> None:
    """Record the images of a run, 8 bytes each: those it trains on, those it validates on, and those before.

    Args:
        run: its folder is there.
        data: its images.
        earlier: the runs whose weights it begins or learns from. What they were trained on and this run is not, it
            has indirectly been trained on, too.

    Raises:
        InputError: it cannot be written.
    """
    from safetensors.numpy import save

    train, val = (np.unique(images.content().numpy()) for images in (data.train, data.val))
    seen = [found for other in earlier if (found := seen_by(other)) is not None]
    before = np.setdiff1d(np.concatenate(seen), train) if seen else np.zeros(0, dtype=np.int64)
    content = save(dict(zip(PARTS, (train, val, before), strict=True)), {"format": "1"})
    path = run.path / NAME
    try:
        write_atomically(path, lambda aside: aside.write_bytes(content))
    except OSError as error:
        raise write_failure(path, error, len(content)) from error


def samples_bytes(data: DataSet) -> int:
    """About how much room the record of a run takes on the disk."""
    return 8 * 2 * (len(data.train) + len(data.val))


def seen_by(run: RunFolder) -> Hashes | None:
    """Return the hashes of all images that a run was trained on, itself or before; None where it keeps no record.

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
        raise InputError(f"{path} cannot be read ({reason}); remove it to go on without its check") from None
    if any(part.dtype != np.int64 or part.ndim != 1 for part in parts):
        raise InputError(f"{path} holds no list of images; remove it to go on without its check")
    return np.concatenate(parts)
