"""List the images of Arrow IPC files, and read any of them by its row; stream and file format.

Packed sets and the files of Hugging Face ``datasets`` are read alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stillroom.data.arrow_file import ArrowFile
from stillroom.data.image_table import VAL_PREFIXES, Labels, list_tables, open_splits
from stillroom.data.listing import Listing
from stillroom.data.pack_manifest import PROGRESS, check_rows, require_manifest
from stillroom.data.shard_store import ShardStore, read_in_order
from stillroom.errors import InputError
from stillroom.files import first_few, shown

_NUMBERED = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.arrow")


def find_arrow(root: Path) -> tuple[list[Path], list[Path]] | None:
    """Find the files of the training and the validation split.

    They are called ``train*.arrow``, or ``NAME-train*.arrow`` as in the cache of ``datasets``, in the folder or its
    ``data`` folder; or they are in folders ``train`` and ``validation``, as ``save_to_disk`` writes them.

    Returns:
        Sorted files of both splits, the second list empty if there are none; None if there are no Arrow files.

    Raises:
        InputError: the folder is that of an unfinished `stillroom pack`.
    """
    for folder in (root, root / "data"):
        if (folder / PROGRESS).is_file():
            require_manifest(folder)
        train = _files_of(folder, "train")
        if train:
            return train, next((files for name in VAL_PREFIXES if (files := _files_of(folder, name))), [])
    return None


def _files_of(folder: Path, split: str) -> list[Path]:
    patterns = (f"{split}*.arrow", f"*-{split}*.arrow", f"{split}/*.arrow")
    return next((files for pattern in patterns if (files := sorted(folder.glob(pattern)))), [])


def list_arrow(
    train: Sequence[Path], val: Sequence[Path], *, need_labels: bool = True
) -> tuple[Listing, Listing | None]:
    """List the rows of both splits; see :func:`stillroom.data.image_table.list_tables`.

    Args:
        train: at least one file.
        val: possibly none.
        need_labels: whether to refuse training rows none of which has a label.

    Returns:
        The training and the validation listing, with stores for random access.

    Raises:
        InputError: files cannot be read, were cut short, are missing, differ from the manifest, or have no such column;
            the message names them.
    """
    _require_numbers([*train, *val])
    splits = open_splits(train, val, ArrowFile.open)
    digest = _check_manifest([*splits[0], *splits[1]])
    listings = list_tables(*splits, read_in_order, need_labels=need_labels)
    train_listing, val_listing = (
        None if listing is None else replace(listing, store=ShardStore(files, digest), content=_original_content(files))
        for listing, files in zip(listings, splits, strict=True)
    )
    assert train_listing is not None
    return train_listing, val_listing


def _original_content(files: Sequence[ArrowFile]) -> Labels | None:
    parts = [file.content for file in files if file.content is not None]
    return np.concatenate(parts) if len(parts) == len(files) > 0 else None


def _require_numbers(paths: Sequence[Path]) -> None:
    """Refuse sets whose files say how many they are, and of which some are missing."""
    found: dict[tuple[Path, str, int], set[int]] = {}
    for path in paths:
        if match := _NUMBERED.fullmatch(path.name):
            found.setdefault((path.parent, match[1], int(match[3])), set()).add(int(match[2]))
    for (folder, name, count), numbers in found.items():
        missing = sorted(set(range(count)) - numbers)
        if missing:
            names = first_few([f"{name}-{number:05}-of-{count:05}.arrow" for number in missing])
            raise InputError(f"{shown(folder)} lacks {names}; copy, download or pack the set again")


def _check_manifest(files: Sequence[ArrowFile]) -> str:
    """Compare packed files with their manifest; return its digest, or an empty string for other files."""
    folder = files[0].path.parent
    foreign = [file.path.name for file in files if not file.packed]
    if len(foreign) == len(files):
        return ""
    if foreign:
        raise InputError(f"{first_few(foreign)} of {shown(folder)} not written by `stillroom pack`; remove them")
    manifest = require_manifest(folder)
    check_rows(folder, manifest, {file.path.name: len(file.labels) for file in files})
    return manifest.digest
