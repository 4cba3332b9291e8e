"""Set index: content hashes and unreadable images of a set that is decoded on demand, cached between runs.

The first start reads every file once. Later starts take the index from the cache. It is valid while the names are the
same and no folder has changed; otherwise only files that changed are read again. A file that is edited in place leaves
its folder unchanged: the store notices when it reads the file.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillroom.data.cache import cache_folder, write_cache
from stillroom.data.content_hash import NO_CONTENT, hash_bytes
from stillroom.data.decoding import decode_image, open_image, pillow_silent, reason_of
from stillroom.data.folder_store import FileNames, FolderStore, read_file
from stillroom.data.image_store import Encoded, ImageStore
from stillroom.data.listing import Listing
from stillroom.files import shown

_VERSION = 1
_GROUP = 64  # images that a thread looks at in one go
_SAY_SECONDS = 30.0
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # a file that ends so was not cut short

_Numbers = NDArray[np.int64]
Say = Callable[[str], object]


@dataclass(frozen=True, slots=True, eq=False)
class SetIndex:
    """What is known of the images of one split without decoding them.

    Attributes:
        labels: int64 array (n,), as in the listing.
        digests: int64 array (n,), the content hash of each image; 0 where it is unreadable.
        broken: indices of the unreadable images.
        reasons: why each of them cannot be read, in a few words.
        store: random access to the images; it refuses files that changed.
    """

    labels: _Numbers
    digests: _Numbers
    broken: tuple[int, ...]
    reasons: tuple[str, ...]
    store: ImageStore


def indexed(listing: Listing, *, cache: str | os.PathLike[str] | None = None, say: Say | None = None) -> SetIndex:
    """Index a listing, or take its index from the cache.

    Args:
        listing: of a set with random access. Where it has the content hashes already, nothing is read.
        cache: the folder for derived data; None is the user's, see :func:`stillroom.data.cache.cache_folder`.
        say: is told what takes time, and how far it is.

    Returns:
        The index; images that cannot be read are in it, with the reason.
    """
    store = listing.store
    assert store is not None
    content = getattr(listing, "content", None)
    if content is not None:  # written by `stillroom pack`, which has decoded every image
        return SetIndex(listing.labels, content, (), (), store)
    if isinstance(store, FolderStore):
        return _index_folder(listing, store, cache_folder(cache) / "indexes", say)
    return _index_shards(listing, store, cache_folder(cache) / "indexes", say)


class _Looks(NamedTuple):
    """What was found of some images: content hashes, sizes and times of files (-1: none), reasons ("": readable)."""

    digests: _Numbers
    sizes: _Numbers
    times: _Numbers
    reasons: NDArray[Any]

    @classmethod
    def empty(cls, count: int) -> _Looks:
        unknown = np.full(count, -1, np.int64)
        return cls(np.full(count, NO_CONTENT, np.int64), unknown, unknown.copy(), np.full(count, "unread", object))

    def put(self, places: Sequence[int] | _Numbers, other: _Looks) -> None:
        for own, theirs in zip(self, other, strict=True):
            own[places] = theirs

    def at(self, places: _Numbers) -> _Looks:
        return _Looks(*(values[places] for values in self))


def _index_folder(listing: Listing, store: FolderStore, folder: Path, say: Say | None) -> SetIndex:
    path = _cache_file(folder, str(store.root.resolve()), listing.where)
    folders = _folder_times(store.root, store.names)
    known = _read(path)
    looks = _Looks.empty(len(store))
    if known is not None and known.names == store.names and known.folders == folders:
        looks.put(np.arange(len(store)), known.looks)
        stale = np.flatnonzero(looks.reasons != "")  # may have been repaired in place
    else:
        stale = _reuse(store, known, looks)
    fresh = store.root, store.names
    changed = _look_at(stale, lambda place: _look_at_file(fresh[0] / fresh[1][place]), looks, listing.where, say)
    if changed or known is None or known.names != store.names or known.folders != folders:
        _write(path, _Known(store.names, folders, looks))
    checked = FolderStore(store.root, store.names, looks.sizes, looks.times, path)
    return _result(listing, looks, checked)


def _index_shards(listing: Listing, store: ImageStore, folder: Path, say: Say | None) -> SetIndex:
    """Index images inside larger files; ``stamp`` tells whether those changed."""
    stamp = getattr(store, "stamp", None)
    path = _cache_file(folder, listing.where, "" if stamp is None else stamp)
    looks = _Looks.empty(len(store))
    known = None if stamp is None else _read(path)
    if known is not None and len(known.looks.digests) == len(store):
        return _result(listing, known.looks, store)
    _look_at(np.arange(len(store)), lambda place: _look_at_bytes(store[place]), looks, listing.where, say)
    if stamp is not None:
        _write(path, _Known(FileNames(()), {}, looks))
    return _result(listing, looks, store)


def _result(listing: Listing, looks: _Looks, store: ImageStore) -> SetIndex:
    broken = np.flatnonzero(looks.reasons != "")
    reasons = tuple(str(reason) for reason in looks.reasons[broken])
    return SetIndex(listing.labels, looks.digests, tuple(broken.tolist()), reasons, store)


def _reuse(store: FolderStore, known: _Known | None, looks: _Looks) -> _Numbers:
    """Copy what is known of files that are unchanged; return the indices of the others."""
    if known is None:
        return np.arange(len(store))
    places = {name: place for place, name in enumerate(known.names)}
    mine: list[int] = []
    theirs: list[int] = []
    for place, name in enumerate(store.names):
        other = places.get(name)
        if other is None or known.looks.reasons[other] != "":
            continue
        try:
            found = os.stat(store.root / name)  # noqa: PTH116  one call a file
        except OSError:
            continue
        if (found.st_size, found.st_mtime_ns) == (known.looks.sizes[other], known.looks.times[other]):
            mine.append(place)
            theirs.append(other)
    looks.put(mine, known.looks.at(np.asarray(theirs, np.int64)))
    return np.delete(np.arange(len(store)), mine)


def _look_at(
    places: _Numbers, look: Callable[[int], tuple[int, int, int, str]], looks: _Looks, where: str, say: Say | None
) -> bool:
    """Look at some images in threads; return whether anything was found that was not known."""
    before = looks.at(places)
    last = time.monotonic()
    if say is not None and len(places) > _GROUP:
        say(f"reading {len(places):,} images of {shown(where)} once, for their content hashes")

    def group(start: int) -> list[tuple[int, int, int, str]]:
        return [look(place) for place in places[start : start + _GROUP].tolist()]

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with pillow_silent():
            starts = range(0, len(places), _GROUP)
            for start, found in zip(starts, pool.map(group, starts), strict=True):
                looks.put(places[start : start + _GROUP], _Looks(*(np.asarray(v, k) for v, k in _columns(found))))
                if say is not None and time.monotonic() - last > _SAY_SECONDS:
                    last = time.monotonic()
                    say(f"{start + len(found):,} of {len(places):,} images read")
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
    return any(not np.array_equal(new, old) for new, old in zip(looks.at(places), before, strict=True))


def _columns(found: Sequence[tuple[int, int, int, str]]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    return zip(zip(*found, strict=True), (np.int64, np.int64, np.int64, object), strict=True)


def _look_at_file(path: Path) -> tuple[int, int, int, str]:
    """Read a file once: return its content hash, size, time, and why it cannot be decoded."""
    try:
        (size, changed), content = read_file(path)
    except OSError as error:
        return NO_CONTENT, -1, -1, reason_of(error)
    digest, _, _, reason = _look_at_bytes(content)
    return digest, size, changed, reason


def _look_at_bytes(content: Encoded) -> tuple[int, int, int, str]:
    assert not isinstance(content, Path)
    if not content:
        return NO_CONTENT, -1, -1, "empty"
    reason = why_unreadable(content)
    return NO_CONTENT if reason else hash_bytes(content), -1, -1, reason


def why_unreadable(content: bytes) -> str:
    """Say why the bytes of an image file cannot be decoded; empty if they can.

    A JPEG or PNG that ends as its format prescribes is not decoded: its header says the rest. Other formats, and files
    that end otherwise, are decoded.
    """
    try:
        with open_image(content) as (_, image):
            if 0 not in image.size and content.endswith(_ENDS.get(image.format or "", b"\0none")):
                return ""
        decode_image(content)
    except Exception as error:  # noqa: BLE001  a damaged file can make Pillow raise anything
        return str(error) if type(error) is OSError and error.errno is None else reason_of(error)
    return ""


class _Known(NamedTuple):
    """The content of a cached index: names, times of folders, and what was found."""

    names: FileNames
    folders: dict[str, int]
    looks: _Looks


def _folder_times(root: Path, names: FileNames) -> dict[str, int]:
    """Return when each folder that holds a file was last changed, in nanoseconds."""
    folders = dict.fromkeys(name.rpartition("/")[0] for name in names)
    return {folder: _changed(root / folder) for folder in folders}


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def _cache_file(folder: Path, *parts: str) -> Path:
    text = "\0".join((str(_VERSION), *parts))
    return folder / f"{hashlib.sha256(os.fsencode(text)).hexdigest()[:24]}.npz"


def _write(path: Path, known: _Known) -> None:
    folders = FileNames(known.folders)
    broken = np.flatnonzero(known.looks.reasons != "")
    reasons = FileNames(str(reason) for reason in known.looks.reasons[broken])
    arrays: dict[str, NDArray[Any]] = {
        "digests": known.looks.digests,
        "sizes": known.looks.sizes,
        "times": known.looks.times,
        "broken": broken,
        "folder_times": np.asarray(list(known.folders.values()), np.int64),
    }
    for name, names in (("names", known.names), ("folders", folders), ("reasons", reasons)):
        arrays |= {name: np.frombuffer(names.block, np.uint8), f"{name}_ends": names.ends}
    write_cache(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def _read(path: Path) -> _Known | None:
    """Read a cached index; None if there is none, or it is damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        names, folders, reasons = (
            FileNames.stored(arrays[name].tobytes(), arrays[f"{name}_ends"]) for name in ("names", "folders", "reasons")
        )
        all_reasons = np.full(len(arrays["digests"]), "", object)
        all_reasons[arrays["broken"]] = list(reasons)
        looks = _Looks(arrays["digests"], arrays["sizes"], arrays["times"], all_reasons)
        return _Known(names, dict(zip(folders, arrays["folder_times"].tolist(), strict=True)), looks)
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile):
        return None
