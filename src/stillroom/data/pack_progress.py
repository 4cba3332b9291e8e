"""Pack progress: the plan of a packed set and its finished shards, so that a killed pack continues."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stillroom.data.listing import Listing
from stillroom.data.pack_manifest import MANIFEST, PROGRESS, ShardRecord
from stillroom.data.pack_writer import file_sha256
from stillroom.errors import InputError
from stillroom.files import first_few, is_temporary, shown, write_text
from stillroom.reading import UnreadableError, read_json

LOCK = ".lock"
_CONTAINERS = ("*.parquet", "*.arrow", "*.tar")


@dataclass(frozen=True, slots=True)
class FinishedShard:
    """A finished shard.

    Attributes:
        record: as in the manifest.
        state: of the original files; another one means that they have changed since.
        broken: place in the split and reason of each unreadable image.
    """

    record: ShardRecord
    state: str
    broken: Sequence[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """A shard and the places of its images in the listing of its split."""

    split: str
    name: str
    places: range


@dataclass(slots=True)
class PackProgress:
    """The plan of a packed set and what is finished of it.

    Attributes:
        folder: where it is written.
        identity: the settings, and a digest of the listing.
        rows: number of images in a shard, unreadable ones included.
        finished: by the name of the shard.
    """

    folder: Path
    identity: dict[str, Any]
    rows: int
    finished: dict[str, FinishedShard] = field(default_factory=dict)

    def shards(self, counts: dict[str, int]) -> Iterator[PlannedShard]:
        """Divide the splits into shards.

        Args:
            counts: number of images of each split.
        """
        for split, count in counts.items():
            starts = range(0, count, self.rows)
            for number, start in enumerate(starts):
                name = f"{split}-{number:05}-of-{len(starts):05}.arrow"
                yield PlannedShard(split, name, range(start, min(start + self.rows, count)))

    def is_finished(self, shard: PlannedShard, state: str) -> bool:
        """Whether a shard is complete on the disk and its original files are unchanged; reads the shard."""
        known = self.finished.get(shard.name)
        path = self.folder / shard.name
        return (
            known is not None
            and known.state == state
            and path.is_file()
            and path.stat().st_size == known.record.bytes
            and file_sha256(path) == known.record.sha256
        )

    def write(self) -> None:
        """Write the plan and what is finished, atomically."""
        finished = {name: asdict(shard) for name, shard in self.finished.items()}
        record = {"identity": self.identity, "rows": self.rows, "finished": finished}
        write_text(self.folder / PROGRESS, json.dumps(record, indent=1) + "\n")


def read_progress(folder: Path, identity: dict[str, Any]) -> PackProgress | None:
    """Read what is finished of the same pack; None if nothing was begun.

    Raises:
        InputError: the folder holds another pack, or a damaged record.
    """
    path = folder / PROGRESS
    if not path.is_file():
        return None
    try:
        record = read_json(path)
        known = record["identity"]
        finished = {
            name: FinishedShard(ShardRecord(**one["record"]), one["state"], [tuple(pair) for pair in one["broken"]])
            for name, one in record["finished"].items()
        }
        progress = PackProgress(folder, identity, int(record["rows"]), finished)
        differ = sorted(key for key in {*known, *identity} if known.get(key) != identity.get(key))
    except (OSError, UnreadableError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{shown(path)} is damaged ({type(error).__name__}); remove its folder and pack again"
        ) from None
    if differ == ["listing"]:
        raise InputError(f"the images of {shown(identity['source'])} have changed since {shown(folder)} was begun; "
                         "remove that folder, or pack into another")  # fmt: skip
    if differ:
        one = next(key for key in differ if key != "listing")
        raise InputError(
            f"{shown(folder)} holds a pack with {one}={known.get(one)}, not {identity.get(one)}; give the same "
            "settings, or another folder"
        )
    return progress


def refuse_other_content(folder: Path) -> None:
    """Refuse a folder that holds something else than a pack.

    Raises:
        InputError: naming what it holds.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"DEST is {shown(folder)}, a file; give a new folder")
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if PROGRESS in names:
        own = {PROGRESS, MANIFEST, LOCK}
        other = [name for name in names if name not in own and not name.endswith(".arrow") and not is_temporary(name)]
    else:
        other = [name for name in names if name != LOCK and not is_temporary(name)]
    if other:
        raise InputError(f"DEST is {shown(folder)}, which holds {first_few(other)}; give a new folder")


def listing_digest(source: Path, splits: dict[str, Listing]) -> str:
    """Return hexadecimal digits that change with names, labels and classes, and with files that hold many images."""
    digest = hashlib.sha256()
    for name, listing in splits.items():
        digest.update(f"{name}\n{listing.classes}\n".encode(errors="surrogateescape"))
        digest.update(listing.labels.tobytes())
        for one in listing.names:
            digest.update(one.encode(errors="surrogateescape") + b"\n")
    for pattern in _CONTAINERS:
        for path in sorted([*source.glob(pattern), *source.glob(f"*/{pattern}")]):
            found = path.stat()
            digest.update(f"{path.name} {found.st_size} {found.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def source_state(listing: Listing, places: range) -> str:
    """Return hexadecimal digits that change with the sizes and times of image files; empty for other sources."""
    store = listing.store
    if store is None or not isinstance(store[places.start], Path):
        return ""
    digest = hashlib.sha256()
    for place in places:
        try:
            found = Path(str(store[place])).stat()
            digest.update(f"{found.st_size} {found.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(b"missing\n")
    return digest.hexdigest()[:16]
