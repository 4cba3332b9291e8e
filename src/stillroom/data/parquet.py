"""List the images of Parquet files in the Hugging Face layout: a column of encoded images and one of labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.data.image_store import Encoded
from stillroom.data.image_table import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    VAL_PREFIXES,
    TableFile,
    arrow_errors,
    find_columns,
    list_tables,
    open_splits,
    read_labels,
    require_regular,
    stored_names,
    unreadable_table,
)
from stillroom.data.listing import Listing


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

    Raises:
        InputError: files cannot be read or have no such column; the message names all of them.
    """
    return list_tables(*open_splits(train, val, _open), _read_all, need_labels=need_labels)


@dataclass(eq=False)
class _ParquetFile(TableFile):
    """An open Parquet file and its column of images."""

    file: Any
    image: str


def _open(path: Path) -> _ParquetFile:
    import pyarrow.parquet as pq

    require_regular(path)
    try:
        file = pq.ParquetFile(path)  # type: ignore[no-untyped-call]
        schema = file.schema_arrow
    except arrow_errors() as error:
        raise unreadable_table(path, "Parquet", error) from None
    image, label = find_columns(path, schema)
    try:
        labels = read_labels(file.read(columns=[label]).column(0))  # type: ignore[no-untyped-call]
    except arrow_errors() as error:
        raise unreadable_table(path, "Parquet", error) from None
    return _ParquetFile(path, labels, stored_names(schema, label), file, image)


def _read_all(files: Sequence[_ParquetFile]) -> Iterator[Sequence[Encoded]]:
    for file in files:
        try:
            for batch in file.file.iter_batches(_rows_at_once(file.file), columns=[f"{file.image}.bytes"]):
                yield batch.column(0).field(0).to_pylist()
        except arrow_errors() as error:
            raise unreadable_table(file.path, "Parquet", error) from None


def _rows_at_once(file: Any) -> int:
    """Number of rows to read at a time, fewer for large images."""
    metadata = file.metadata
    size = sum(int(metadata.row_group(number).total_byte_size) for number in range(metadata.num_row_groups))
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES * int(metadata.num_rows) // max(1, size)))
