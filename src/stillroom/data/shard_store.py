"""Shard store: random access to the images inside Arrow or tar files; Parquet files are copied to Arrow files first."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stillroom.data.arrow_file import MISSING, file_state, join_arrays
from stillroom.data.image_store import Encoded
from stillroom.data.image_table import CHUNK_BYTES, CHUNK_ROWS
from stillroom.errors import InputError
from stillroom.files import shown

_OPEN = 256  # files that a store keeps open in each process


class ShardFile(Protocol):
    """A file that contains images.

    Attributes:
        path: the file.
        offsets: int64 (images,), where the bytes of each image begin in it.
        lengths: int32 (images,), how many there are; -1 if the image is null.
        state: its size in bytes and time of modification in nanoseconds.
    """

    path: Path
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]
    state: tuple[int, int]


class ShardStore:
    """Random access to the images of Arrow or tar files: 12 bytes of memory an image, one read of the file for each.

    Files are read, not mapped, so a file that is cut short during a run is an error and not the end of the process.

    Args:
        files: of one split.
        pack_digest: digest of the manifest, where the files are a packed set.
    """

    def __init__(self, files: Sequence[ShardFile], pack_digest: str = "") -> None:
        self.pack_digest = pack_digest
        self._paths = [file.path for file in files]
        self._states = [file.state for file in files]
        self._starts = np.cumsum([0] + [len(file.lengths) for file in files])
        self._offsets = join_arrays([file.offsets for file in files], np.int64)
        self._lengths = join_arrays([file.lengths for file in files], np.int32)
        self._keep_open()

    def _keep_open(self) -> None:
        self._opened: dict[int, int] = {}
        weakref.finalize(self, _close_all, self._opened)

    @property
    def stamp(self) -> str:
        """A text that changes with the path, size or time of modification of a file."""
        return repr([(str(path.resolve()), state) for path, state in zip(self._paths, self._states, strict=True)])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._lengths)

    def __getitem__(self, place: int) -> bytes | None:
        """Return the bytes of an image, or None if its row is null.

        Raises:
            InputError: the file has changed since it was listed, was cut short or has vanished; the message names it.
        """
        if not 0 <= place < len(self):
            raise IndexError(place)
        length = int(self._lengths[place])
        if length == MISSING:
            return None
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        try:
            descriptor = self._opened.get(number)
            kept = descriptor is not None
            if descriptor is None:
                descriptor = self._open(number)
                kept = len(self._opened) < _OPEN and self._opened.setdefault(number, descriptor) == descriptor
            try:
                content = os.pread(descriptor, length, int(self._offsets[place]))
                changed = file_state(os.fstat(descriptor)) != self._states[number]
            finally:
                if not kept:
                    os.close(descriptor)
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise self._lost(number, f"cannot be read ({reason})") from None
        if len(content) < length:
            raise self._lost(number, "was cut short")
        if changed:  # written to while it was open
            raise self._lost(number, "has changed since the start")
        return content

    def _open(self, number: int) -> int:
        descriptor = os.open(self._paths[number], os.O_RDONLY | os.O_CLOEXEC)
        if file_state(os.fstat(descriptor)) != self._states[number]:
            os.close(descriptor)
            raise self._lost(number, "has changed since the start")
        return descriptor

    def _lost(self, number: int, what: str) -> InputError:
        return InputError(f"{shown(self._paths[number])} {what}; put the file back as it was and start again")

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the open files."""
        return {name: value for name, value in vars(self).items() if name != "_opened"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled store; files are opened when they are read."""
        vars(self).update(state)
        self._keep_open()


def _close_all(opened: dict[int, int]) -> None:
    for descriptor in opened.values():
        os.close(descriptor)


def read_in_order(files: Sequence[ShardFile]) -> Iterator[Sequence[Encoded]]:
    """Read the images of some files in order, in chunks."""
    store = ShardStore(files)
    chunk: list[Encoded] = []
    size = 0
    for place in range(len(store)):
        image = store[place]
        chunk.append(image)
        size += len(image or b"")
        if len(chunk) == CHUNK_ROWS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
