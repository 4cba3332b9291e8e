"""Arrow IPC files of images: where the bytes of each image are, and their labels; stream and file format."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillroom.data.image_table import (
    Labels,
    TableFile,
    arrow_errors,
    find_columns,
    read_labels,
    require_regular,
    stored_names,
    unreadable_table,
)
from stillroom.data.pack_manifest import SCHEMA_KEY
from stillroom.errors import InputError

MISSING = -1  # length of an image that is null

_MAGIC = b"ARROW1"
_END = b"\xff\xff\xff\xff\0\0\0\0"  # the last bytes of a complete stream
_KINDS = (np.int64, np.int32)


@dataclass(eq=False)
class ArrowFile(TableFile):
    """One Arrow file with the place of each image in it.

    Attributes:
        offsets: int64 (rows,), where the bytes of each image begin in the file.
        lengths: int32 (rows,), how many there are; -1 if the image is null.
        content: int64 (rows,), the content hashes of the original files; None if they are not stored.
        packed: whether the file belongs to a manifest.
        state: size in bytes and time of modification in nanoseconds.
    """

    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]
    content: Labels | None
    packed: bool
    state: tuple[int, int]

    @classmethod
    def open(cls, path: Path) -> ArrowFile:
        """Read everything but the images.

        Raises:
            InputError: the file cannot be read, was cut short or is compressed, or its columns do not fit.
        """
        require_regular(path)
        try:
            state = file_state(path.stat())
            batches, schema, base = _batches(path)
            image, label = find_columns(path, schema)
            packed = SCHEMA_KEY in (schema.metadata or {})
            extents = [_extents(path, batch.column(image), base, state[0]) for batch in batches]
            labels = join_arrays([read_labels(batch.column(label)) for batch in batches], np.int64)
            hashes = [read_labels(batch.column("content")) for batch in batches] if packed else []
        except arrow_errors() as error:
            if isinstance(error, InputError):
                raise
            raise unreadable_table(path, "Arrow", error) from None
        offsets, lengths = (join_arrays([pair[side] for pair in extents], kind) for side, kind in enumerate(_KINDS))

        content = join_arrays(hashes, np.int64) if packed else None
        return cls(path, labels, stored_names(schema, label), offsets, lengths, content, packed, state)


def _batches(path: Path) -> tuple[list[Any], Any, int]:
    """Map a file into memory; return its record batches, their schema, and the address where the file begins."""
    arrow: Any = importlib.import_module("pyarrow")  # late because it is slow
    source = arrow.memory_map(str(path))
    size = source.size()
    base = int(source.read_buffer(size).address) if size else 0
    source.seek(0)
    if source.read(len(_MAGIC)) == _MAGIC:
        file = arrow.ipc.open_file(source)
        return [file.get_batch(number) for number in range(file.num_record_batches)], file.schema, base
    source.seek(max(0, size - len(_END)))
    if source.read(len(_END)) != _END:
        raise InputError(f"{path} was cut short: its end is missing; copy, download or pack it again")
    source.seek(0)
    stream = arrow.ipc.open_stream(source)
    return list(stream), stream.schema, base


def _extents(path: Path, images: Any, base: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return where the bytes of each image of a record batch begin in the file, and how many they are."""
    import pyarrow.types as types

    column = images.field("bytes")
    _, bounds, values = column.buffers()
    if len(column) == 0 or values is None or bounds is None:
        return np.zeros(len(images), np.int64), np.full(len(images), MISSING, np.int32)
    kind = np.int64 if types.is_large_binary(column.type) else np.int32
    edges = np.frombuffer(bounds, kind)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    begin = values.address - base
    lengths = np.diff(edges)
    if not (begin >= 0 and begin + values.size <= size):
        raise InputError(f"{path} is compressed; write it without compression, as `datasets` does")
    if len(edges) and not (edges[0] >= 0 and (lengths >= 0).all() and edges[-1] <= values.size):
        raise InputError(f"{path} is damaged: images reach beyond its end; copy, download or pack it again")
    null = column.is_null().to_numpy(zero_copy_only=False) | images.is_null().to_numpy(zero_copy_only=False)
    return edges[:-1] + begin, np.where(null, MISSING, lengths).astype(np.int32)


def join_arrays(parts: Sequence[NDArray[Any]], kind: Any) -> NDArray[Any]:
    """Join arrays, possibly none, of a type."""
    return np.concatenate([np.empty(0, kind), *parts])


def file_state(found: os.stat_result) -> tuple[int, int]:
    """Return size and time of modification, which tell a file that has changed."""
    return found.st_size, found.st_mtime_ns
