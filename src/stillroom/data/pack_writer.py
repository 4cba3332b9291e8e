"""Write the shards of a packed set: Arrow IPC streams that Hugging Face ``datasets`` opens, too."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stillroom.data.pack_image import PackedImage
from stillroom.data.pack_manifest import SCHEMA_KEY, ShardRecord
from stillroom.files import shown, write_atomically


class PackedRow(NamedTuple):
    """A row of a shard.

    Attributes:
        image: its bytes and the content hash of the original file.
        path: name of the original file.
        label: the class; None if it is unknown.
    """

    image: PackedImage
    path: str
    label: int | None


def write_shard(path: Path, classes: Sequence[str], batches: Iterator[Sequence[PackedRow]]) -> ShardRecord:
    """Write one shard atomically.

    Args:
        path: the file.
        classes: the names of the classes.
        batches: rows, in groups that become record batches; consumed.

    Returns:
        The record of the shard.

    Raises:
        OSError: it cannot be written.
    """
    arrow: Any = importlib.import_module("pyarrow")  # late because it is slow
    schema = shard_schema(classes)
    rows, digest = 0, ""

    def write(aside: Path) -> None:
        nonlocal rows, digest
        with arrow.OSFile(str(aside), "wb") as sink, arrow.ipc.new_stream(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(_record_batch(arrow, schema, batch))
                rows += len(batch)
        digest = file_sha256(aside)

    write_atomically(path, write)
    return ShardRecord(path.name, rows, path.stat().st_size, digest)


def shard_schema(classes: Sequence[str]) -> Any:
    """Return the Arrow schema of a shard, with metadata for ``datasets`` and for our reader."""
    arrow: Any = importlib.import_module("pyarrow")
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
        "content": {"dtype": "int64", "_type": "Value"},
    }
    image = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    columns = [("image", image), ("label", arrow.int64()), ("content", arrow.int64())]
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode(), SCHEMA_KEY: b"pack 1"}
    return arrow.schema(columns, metadata)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _record_batch(arrow: Any, schema: Any, rows: Sequence[PackedRow]) -> Any:
    encoded = arrow.array([row.image.encoded for row in rows], arrow.binary())
    paths = arrow.array([shown(row.path, 4096) for row in rows], arrow.string())
    image = arrow.StructArray.from_arrays([encoded, paths], fields=list(schema.field("image").type))
    labels = arrow.array([row.label for row in rows], arrow.int64())
    content = arrow.array([row.image.content for row in rows], arrow.int64())
    return arrow.record_batch([image, labels, content], schema=schema)
