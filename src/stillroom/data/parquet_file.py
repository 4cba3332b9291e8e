"""Parquet files of images in the Hugging Face layout: their labels, and their images read in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.data.arrow_file import file_state
from stillroom.data.image_store import Encoded
from stillroom.data.image_table import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    TableFile,
    arrow_errors,
    find_columns,
    read_labels,
    require_regular,
    stored_names,
    unreadable_table,
)

_READ_BYTES = 2**20  # of a column to read at a time


@dataclass(eq=False)
class ParquetFile(TableFile):
    """An open Parquet file.

    Attributes:
        file: pyarrow's file.
        image: name of the column of images.
        label: name of the column of labels.
        state: size in bytes and time of modification in nanoseconds.
    """

    file: Any
    image: str
    label: str
    state: tuple[int, int]

    @classmethod
    def open(cls, path: Path) -> ParquetFile:
        """Read everything but the images.

        Raises:
            InputError: the file cannot be read, or its columns do not fit.
        """
        import pyarrow.parquet as pq

        require_regular(path)
        try:
            state = file_state(path.stat())
            # Without these two, pyarrow reads all row groups ahead: the whole file would be in memory.
            file = pq.ParquetFile(path, pre_buffer=False, buffer_size=_READ_BYTES)  # type: ignore[no-untyped-call]
            schema = file.schema_arrow
        except arrow_errors() as error:
            raise unreadable_table(path, "Parquet", error) from None
        image, label = find_columns(path, schema)
        try:
            labels = read_labels(file.read(columns=[label]).column(0))  # type: ignore[no-untyped-call]
        except arrow_errors() as error:
            raise unreadable_table(path, "Parquet", error) from None
        return cls(path, labels, stored_names(schema, label), file, image, label, state)

    def batches(self) -> Iterator[Any]:
        """Read images and labels in order, as record batches of a struct of bytes and an integer.

        At most one row group and one batch are in memory.

        Raises:
            InputError: the file is damaged.
        """
        try:
            yield from self.file.iter_batches(self._rows_at_once(), columns=self._columns())
        except arrow_errors() as error:
            raise unreadable_table(self.path, "Parquet", error) from None

    def schema(self) -> Any:
        """Return the schema of the batches."""
        return self.file.read_row_groups([], columns=self._columns()).schema

    def image_bytes(self) -> int:
        """Return about how many bytes the images have together."""
        return sum(
            int(group.column(number).total_uncompressed_size)
            for group in self._row_groups()
            for number in range(group.num_columns)
            if group.column(number).path_in_schema == self._columns()[0]
        )

    def _columns(self) -> list[str]:
        return [f"{self.image}.bytes", self.label]

    def _row_groups(self) -> list[Any]:
        return [self.file.metadata.row_group(number) for number in range(self.file.metadata.num_row_groups)]

    def _rows_at_once(self) -> int:
        """Number of rows to read at a time, fewer for large images."""
        size = sum(int(group.total_byte_size) for group in self._row_groups())
        return max(1, min(CHUNK_ROWS, CHUNK_BYTES * len(self.labels) // max(1, size)))


def read_rows_in_order(files: Sequence[ParquetFile]) -> Iterator[Sequence[Encoded]]:
    """Read the images of some files in order, in chunks."""
    for file in files:
        for batch in file.batches():
            yield batch.column(file.image).field(0).to_pylist()
