"""List the images of tar shards in the WebDataset layout, and read any of them by its place in the shard.

The headers of a shard are read once. What they say is cached by the shard's path, size and time of modification.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stillroom.data.cache import cache_folder, write_cache
from stillroom.data.folder_scan import IMAGES
from stillroom.data.folder_store import FileNames
from stillroom.data.image_table import VAL_PREFIXES, TableFile, list_tables, open_splits, require_regular
from stillroom.data.listing import Listing
from stillroom.data.shard_store import ShardStore, read_in_order
from stillroom.errors import InputError, first_line
from stillroom.files import first_few, shown
from stillroom.formatting import counted
from stillroom.reading import UnreadableError, parse_json, read_json, read_text

_VERSION = 1
_BLOCK = 512
_PADDING = 2**20  # bytes of zeros that may follow the end of an archive
_LABEL_BYTES = 2**20
_COMPRESSED = ("gz", "bz2", "xz", "zst")

_Numbers = NDArray[np.int64]


def find_tars(root: Path) -> tuple[list[Path], list[Path]] | None:
    """Find the shards of the training and the validation split, in the folder or its ``data`` folder.

    They are called like ``train-000000.tar`` or ``NAME-train-000000.tar``.

    Returns:
        Sorted files of both splits, the second list empty if there are none; None if there are no shards.

    Raises:
        InputError: shards are compressed.
    """
    for folder in (root, root / "data"):
        if not folder.is_dir():
            continue
        names = sorted(path.name for path in folder.iterdir() if ".tar" in path.name or path.suffix == ".tgz")
        train = _of_split(folder, names, "train")
        if train:
            return train, next((files for name in VAL_PREFIXES if (files := _of_split(folder, names, name))), [])
    return None


def _of_split(folder: Path, names: Sequence[str], split: str) -> list[Path]:
    form = re.compile(rf"(?:.*[-_])?{split}[-_.]?\d.*\.(?:tar|tgz)(?:\.\w+)?|{split}[^/]*\.(?:tar|tgz)(?:\.\w+)?")
    found = [name for name in names if form.fullmatch(name)]
    packed = [name for name in found if name.endswith(".tgz") or name.rpartition(".")[2] in _COMPRESSED]
    if packed:
        raise InputError(
            f"{counted(len(packed), 'shard')} of {shown(folder)} compressed: {first_few(packed)}; no image in them can "
            "be read without all before it. Decompress them, for example with gunzip"
        )
    return [folder / name for name in found if name.endswith(".tar")]


def list_tars(
    train: Sequence[Path],
    val: Sequence[Path],
    *,
    need_labels: bool = True,
    cache: str | os.PathLike[str] | None = None,
) -> tuple[Listing, Listing | None]:
    """List the images of both splits.

    Class names come from ``classes.txt`` (one a line) or ``dataset_info.json`` beside the shards; otherwise classes are
    named by number.

    Args:
        train: at least one shard.
        val: possibly none.
        need_labels: whether to refuse images without a label.
        cache: the folder for derived data; None is the user's.

    Returns:
        The training and the validation listing, with stores for random access.

    Raises:
        InputError: shards cannot be used; the message names all of them.
    """
    names = _class_names(train[0].parent)
    folder = cache_folder(cache) / "tars"
    splits = open_splits(train, val, lambda path: _opened(path, folder, names, need_labels))
    listings = list_tables(*splits, read_in_order, need_labels=need_labels)
    first, second = (
        None if listing is None else replace(listing, names=_joined_names(files), store=ShardStore(files))
        for listing, files in zip(listings, splits, strict=True)
    )
    assert first is not None
    return first, second


@dataclass(eq=False)
class TarShard(TableFile):
    """One tar file with the place of each image in it.

    Attributes:
        members: the names of the images.
        offsets: int64 (images,), where the bytes of each image begin in the file.
        lengths: int32 (images,), how many there are.
        state: size of the shard in bytes and time of modification in nanoseconds.
    """

    members: FileNames
    offsets: _Numbers
    lengths: NDArray[np.int32]
    state: tuple[int, int]


def _opened(path: Path, folder: Path, class_names: tuple[str, ...] | None, need_labels: bool) -> TarShard:
    require_regular(path)
    found = path.stat()
    state = found.st_size, found.st_mtime_ns
    text = f"{_VERSION} {need_labels} {path.resolve()} {state}"
    cached = folder / f"{hashlib.sha256(os.fsencode(text)).hexdigest()[:24]}.npz"
    index = _read_cached(cached)
    if index is None:
        index = _read_headers(path, state[0], need_labels)
        members, offsets, lengths, labels = index
        arrays = {"offsets": offsets, "lengths": lengths, "labels": labels, "ends": members.ends}
        block = np.frombuffer(members.block, np.uint8)
        write_cache(cached, lambda file: np.savez(file, block=block, **arrays))  # type: ignore[arg-type]
    members, offsets, lengths, labels = index
    return TarShard(path, labels, class_names, members, offsets, lengths, state)


_Index = tuple[FileNames, _Numbers, NDArray[np.int32], _Numbers]


def _read_cached(path: Path) -> _Index | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            names = FileNames.stored(stored["block"].tobytes(), stored["ends"])
            return names, stored["offsets"], stored["lengths"], stored["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _read_headers(path: Path, size: int, need_labels: bool) -> _Index:
    """Read the headers and the labels of a shard.

    Raises:
        InputError: the shard is damaged or refused; the message says why.
    """
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, int] = {}
    faults: dict[str, list[str]] = {}
    with path.open("rb") as file:
        end = 0
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    end = member.offset_data + (-(-member.size // _BLOCK) * _BLOCK if member.isreg() else 0)
                    fault = _take(file, path, member, images, labels)
                    if fault:
                        faults.setdefault(fault, []).append(member.name)
                    archive.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
        except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{shown(path)} is not a readable tar file, or was cut short ({first_line(error)}); copy or download "
                "it again"
            ) from None
        _check_end(file, path, end, size)
    without = [name for key, (name, _, _) in images.items() if key not in labels]
    if need_labels and without:
        faults["without a label (KEY.cls or KEY.json)"] = without
    if faults:
        told = "; ".join(f"{counted(len(names), 'member')} {why}: {first_few(names)}" for why, names in faults.items())
        raise InputError(f"{shown(path)} is refused: {told}; write the shard again")
    offsets, lengths = (np.asarray([place[side] for place in images.values()], np.int64) for side in (1, 2))
    own = np.asarray([labels.get(key, -1) for key in images], np.int64)
    return FileNames(name for name, _, _ in images.values()), offsets, lengths.astype(np.int32), own


def _take(
    file: io.BufferedReader,
    path: Path,
    member: tarfile.TarInfo,
    images: dict[str, tuple[str, int, int]],
    labels: dict[str, int],
) -> str:
    """Keep what a member says of an image; return why it is refused, or an empty string."""
    parts = member.name.replace("\\", "/").split("/")
    if member.name.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", member.name):
        return "with a path that leads out of the shard"
    if member.isdir():
        return ""
    if not member.isreg() or member.issparse():
        return "that is a link, a device or otherwise no plain file"
    if parts[-1].startswith("."):
        return ""
    stem, _, form = parts[-1].partition(".")
    key, form = "/".join([*parts[:-1], stem]), form.lower()
    if f".{form.rpartition('.')[2]}" in IMAGES:
        if key in images:
            return "with the key of an earlier image"
        if member.size >= 2**31:
            return "of 2 GB or more"
        images[key] = member.name, member.offset_data, member.size
    elif form in ("cls", "json"):
        text = os.pread(file.fileno(), min(member.size, _LABEL_BYTES), member.offset_data)
        label = _label(text, path) if form == "json" else _integer(text)
        if label is None:
            return "" if form == "json" else "that is not an integer label"
        if labels.setdefault(key, label) != label:
            return "with another label than an earlier member of its key"
    return ""


def _integer(text: bytes) -> int | None:
    return int(text) if re.fullmatch(rb"\s*\d{1,18}\s*", text) else None


def _label(text: bytes, path: Path) -> int | None:
    try:
        record = parse_json(text.decode(), path)
    except (UnreadableError, ValueError):
        return None
    label = record.get("label") if isinstance(record, dict) else None
    return label if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < 2**62 else None


def _check_end(file: io.BufferedReader, path: Path, end: int, size: int) -> None:
    """Refuse a shard without the zeros that end an archive, or with more behind them."""
    rest = os.pread(file.fileno(), _PADDING, end)
    if len(rest) < _BLOCK or rest[:_BLOCK].strip(b"\0"):
        raise InputError(f"{shown(path)} was cut short or is damaged at byte {end:,}; copy or download it again")
    if size - end > _PADDING or rest.strip(b"\0"):
        raise InputError(f"{shown(path)} has more behind its end, as joined archives have; write one archive")


def _joined_names(files: Sequence[TarShard]) -> FileNames:
    return FileNames(f"{file.path.name}/{name}" for file in files for name in file.members)


def _class_names(folder: Path) -> tuple[str, ...] | None:
    """Return the class names beside the shards, or above their folder; None if there are none."""
    for place in dict.fromkeys((folder, folder.parent if folder.name == "data" else folder)):
        lines, info = place / "classes.txt", place / "dataset_info.json"
        if lines.is_file():
            return tuple(line.strip() for line in read_text(lines).rstrip().splitlines())
        if info.is_file():
            record = read_json(info)
            features = record.get("features") if isinstance(record, dict) else None
            parts = features.values() if isinstance(features, dict) else ()
            names = [part["names"] for part in parts if isinstance(part, dict) and isinstance(part.get("names"), list)]
            if names:
                return tuple(map(str, names[0]))
    return None
