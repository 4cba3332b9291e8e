"""List the images of Parquet files in the Hugging Face layout: a column of encoded images and one of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from stillroom.data.image_table import VAL_PREFIXES, list_tables, open_splits
from stillroom.data.listing import Listing
from stillroom.data.parquet_cache import copied_store
from stillroom.data.parquet_file import ParquetFile, read_rows_in_order


def find_parquet(root: Path) -> tuple[list[Path], list[Path]] | None:
    """Find the files of the training and the validation split, in the folder or its ``data`` folder.

    Returns:
        Sorted files of both splits, the second list empty if there are none; None if there are no Parquet files.
    """
    for folder in (root, root / "data"):
        train = sorted(folder.glob("train*.parquet"))
        if train:
            splits = (sorted(folder.glob(f"{name}*.parquet")) for name in VAL_PREFIXES)
            return train, next((files for files in splits if files), [])
    return None


def list_parquet(
    train: Sequence[Path], val: Sequence[Path], *, need_labels: bool = True
) -> tuple[Listing, Listing | None]:
    """List the rows of both splits; see :func:`stillroom.data.image_table.list_tables`.

    Args:
        train: at least one file.
        val: possibly none.
        need_labels: whether to refuse training rows none of which has a label.

    Returns:
        The training and the validation listing; random access is by a copy, which is made when it is needed.

    Raises:
        InputError: files cannot be read or have no such column; the message names all of them.
    """
    splits = open_splits(train, val, ParquetFile.open)
    listings = list_tables(*splits, read_rows_in_order, need_labels=need_labels)
    train_listing, val_listing = (
        None if listing is None else replace(listing, copy=partial(copied_store, files, [*splits[0], *splits[1]]))
        for listing, files in zip(listings, splits, strict=True)
    )
    assert train_listing is not None
    return train_listing, val_listing
