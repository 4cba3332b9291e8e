"""Pack manifest: the record of a packed set, written last and checked by its readers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stillroom.errors import InputError
from stillroom.files import first_few, shown, write_text
from stillroom.formatting import counted
from stillroom.reading import UnreadableError, read_json

MANIFEST = "manifest.json"
PROGRESS = "progress.json"  # beside the shards until all are finished
SCHEMA_KEY = b"stillroom"  # in the metadata of a shard's schema: the shard belongs to a manifest

_FORMAT = "stillroom pack 1"
_AGAIN = "run the same `stillroom pack` command again"


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One finished shard.

    Attributes:
        name: of the file, in the folder of the manifest.
        rows: number of images.
        bytes: size of the file.
        sha256: of the file, in hexadecimal digits.
    """

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SplitRecord:
    """What a split holds.

    Attributes:
        images: number of images.
        per_class: number of images of each class, in the order of the classes.
        unlabelled: number of images without a label.
        broken: names of unreadable images that were skipped.
    """

    images: int
    per_class: Sequence[int]
    unlabelled: int
    broken: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PackManifest:
    """The record of a packed set.

    Attributes:
        source: the folder that was packed.
        settings: how it was packed.
        classes: the names of the classes.
        splits: by name, train and val.
        shards: of all splits.
    """

    source: str
    settings: Mapping[str, Any]
    classes: Sequence[str]
    splits: Mapping[str, SplitRecord]
    shards: Sequence[ShardRecord] = field(default=())

    @property
    def digest(self) -> str:
        """Hexadecimal digits that change with any shard or class name."""
        content = [self.classes, [[shard.name, shard.rows, shard.sha256] for shard in self.shards]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write the manifest atomically.

        Raises:
            OSError: it cannot be written.
        """
        record = {"format": _FORMAT, "digest": self.digest, **asdict(self)}
        write_text(folder / MANIFEST, json.dumps(record, indent=1) + "\n")


def read_manifest(folder: Path) -> PackManifest | None:
    """Read the manifest of a packed set; None if the folder has none.

    Raises:
        InputError: it is damaged, or of another format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        record = read_json(path)
        splits = {name: SplitRecord(**split) for name, split in record["splits"].items()}
        shards = [ShardRecord(**shard) for shard in record["shards"]]
        found = PackManifest(record["source"], record["settings"], record["classes"], splits, shards)
        whole = record["format"] == _FORMAT and record["digest"] == found.digest
    except (OSError, UnreadableError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{shown(path)} is not a readable manifest ({type(error).__name__}); {_AGAIN}") from None
    if not whole:
        raise InputError(f"{shown(path)} is damaged, or of another version of Stillroom; pack the set again")
    return found


def require_manifest(folder: Path) -> PackManifest:
    """Read the manifest of a folder that must have one.

    Raises:
        InputError: there is none, or it is damaged.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"{shown(folder)} has no {MANIFEST}: it is not a packed set, or not a finished one; {_AGAIN}")
    return manifest


def check_rows(folder: Path, manifest: PackManifest, rows: Mapping[str, int]) -> None:
    """Compare the shards that were found with the manifest.

    Args:
        folder: the packed set.
        manifest: of it.
        rows: by the name of each shard that was found, its number of rows.

    Raises:
        InputError: a shard is missing, foreign, or of another number of rows.
    """
    known = {shard.name: shard.rows for shard in manifest.shards}
    missing, foreign = sorted(known.keys() - rows.keys()), sorted(rows.keys() - known.keys())
    if missing:
        raise InputError(
            f"{counted(len(missing), 'shard')} of {shown(folder)} missing: {first_few(missing)}; copy the set again, "
            f"or {_AGAIN}"
        )
    if foreign:
        raise InputError(f"{shown(folder)} has shards that {MANIFEST} does not name: {first_few(foreign)}; remove them")
    for name, count in rows.items():
        if count != known[name]:
            raise InputError(
                f"{shown(folder / name)} has {counted(count, 'row')} and {MANIFEST} says {known[name]:,}; copy it "
                f"again, or {_AGAIN}"
            )
