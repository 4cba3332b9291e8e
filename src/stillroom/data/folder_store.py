"""Folder store: random access to the image files of a folder, with compact names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from stillroom.data.image_store import Encoded
from stillroom.errors import InputError
from stillroom.files import shown

_Numbers = NDArray[np.int64]


class FileNames(Sequence[str]):
    """Many names in one block of bytes: a list of a million strings takes three times the memory.

    Forked processes share the block; reading strings of a list would copy them, because it counts references.

    Args:
        names: names of files, possibly not UTF-8 (as :func:`os.fsdecode` returns them).
    """

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self.block = b"".join(encoded)
        self.ends: _Numbers = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))

    @classmethod
    def stored(cls, block: bytes, ends: _Numbers) -> FileNames:
        """Make the names from their block and the end of each in it."""
        names = cls(())
        names.block, names.ends = block, ends
        return names

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        """Return a name, or a list of some."""
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        index = range(len(self))[place]
        begin = self.ends[index - 1] if index else 0
        return os.fsdecode(self.block[begin : self.ends[index]])

    def __iter__(self) -> Iterator[str]:
        """Return the names in order."""
        begin = 0
        for end in self.ends.tolist():
            yield os.fsdecode(self.block[begin:end])
            begin = end

    def __eq__(self, other: object) -> bool:
        """Whether another sequence has the same names in the same order."""
        if isinstance(other, FileNames):
            return self.block == other.block and np.array_equal(self.ends, other.ends)
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class FolderStore:
    """Random access to image files below a folder.

    Args:
        root: the folder of the set.
        names: of the files, relative to it.
        sizes: int64 (n,), the bytes of each file when it was indexed; None gives paths, and nothing is checked.
        times: int64 (n,), the time of its last change in nanoseconds.
        index: the cached index; it is removed when a file differs from it, so that the next start looks again.
    """

    def __init__(
        self,
        root: Path,
        names: FileNames,
        sizes: _Numbers | None = None,
        times: _Numbers | None = None,
        index: Path | None = None,
    ) -> None:
        self.root, self.names, self.sizes, self.times, self.index = root, names, sizes, times, index

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.names)

    def __getitem__(self, place: int) -> Encoded:
        """Return a file's path, or its bytes once the set is indexed.

        Raises:
            InputError: an indexed file has changed, was cut short or has vanished; the message names it.
        """
        path = self.root / self.names[place]
        if self.sizes is None or self.times is None:
            return path
        expected = int(self.sizes[place]), int(self.times[place])
        try:
            state, content = read_file(path)
        except OSError as error:
            reason = "has vanished" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
            raise self._lost(path, reason) from None
        if len(content) < expected[0]:
            raise self._lost(path, f"was cut short ({len(content):,} of {expected[0]:,} bytes)")
        if state != expected:
            raise self._lost(path, "has changed")
        return content

    def _lost(self, path: Path, what: str) -> InputError:
        if self.index is not None:
            with suppress(OSError):
                self.index.unlink()
        return InputError(
            f"{shown(path)} {what} since the set was indexed; put the file back as it was, or start again: "
            "the files are then looked at anew"
        )


def read_file(path: Path) -> tuple[tuple[int, int], bytes]:
    """Read a regular file.

    Returns:
        Its size in bytes and the time of its last change in nanoseconds; and its bytes.

    Raises:
        OSError: it cannot be read, or is a folder, a pipe, a socket or a device; the message says which.
    """
    # Opened without blocking, then looked at: the file cannot be exchanged in between.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise OSError("a folder")
        if not stat.S_ISREG(found.st_mode):
            raise OSError("a pipe, socket or device")
        with os.fdopen(os.dup(descriptor), "rb", buffering=0) as file:
            content = file.readall()
    finally:
        os.close(descriptor)
    return (found.st_size, found.st_mtime_ns), content
