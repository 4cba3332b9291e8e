"""Parquet cache: a copy of Parquet files as Arrow files in the cache folder, for random access to their images.

Single rows of a Parquet file cannot be read. The copy has every row, broken images included, so that row numbers stay
the same. There is one Arrow file for each Parquet file, and its name tells the path, size and time of modification of
the Parquet file: a copy that is there under this name is complete.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stillroom.data.arrow_file import ArrowFile, file_state
from stillroom.data.cache import cache_folder
from stillroom.data.parquet_file import ParquetFile
from stillroom.data.shard_store import ShardStore
from stillroom.errors import InputError
from stillroom.files import (
    ABANDONED_SECONDS,
    make_folder,
    remove_temporary_files,
    shown,
    write_atomically,
    write_failure,
)
from stillroom.formatting import counted, size_in_words

_ROOM = 1.01  # times the size of the images must be free: labels and metadata need some, too
_LOCK = "lock"
_SAY_SECONDS = 30.0

Say = Callable[[str], object]


def copied_store(files: Sequence[ParquetFile], whole: Sequence[ParquetFile], say: Say) -> ShardStore:
    """Return random access to the images of Parquet files, by a copy that is made at the first call.

    A file that was copied before is not read again while its size and time of modification are the same. A copy that
    was killed continues with the first file that is not finished. Processes that need a copy at the same time wait for
    the one that makes it. One row group and one batch of rows are in memory at a time.

    Args:
        files: of one split.
        whole: of all splits, which are copied together.
        say: is told what is copied and where to.

    Raises:
        InputError: there is too little room, or the cache folder cannot be written; or a Parquet file is damaged, or
            changes while it is copied.
    """
    folder = cache_folder() / "parquet"
    if any(_opened(file, folder) is None for file in whole):
        with _locked(folder, say) as alone:
            remove_temporary_files(folder.iterdir(), older_than=None if alone else ABANDONED_SECONDS)
            # Another process may have made some in the meantime.
            _copy_all([file for file in whole if _opened(file, folder) is None], folder, say)
    copies = [_opened(file, folder) for file in files]
    store = ShardStore([copy for copy in copies if copy is not None])
    if None in copies:
        raise InputError(f"a copy in {shown(folder)} was removed or damaged; run the same command again")
    return store


def _opened(file: ParquetFile, folder: Path) -> ArrowFile | None:
    """Open the copy of a file; None if there is none, or it is damaged."""
    try:
        copy = ArrowFile.open(folder / _copy_name(file))
    except InputError:
        return None
    return copy if len(copy.labels) == len(file.labels) else None


def _copy_name(file: ParquetFile) -> str:
    size, changed = file.state
    return f"{file.path.resolve().stem[:40]}-{_path_key(file)}-{size}-{changed}.arrow"


def _path_key(file: ParquetFile) -> str:
    return hashlib.sha256(os.fsencode(file.path.resolve())).hexdigest()[:16]


def _copy_all(files: Sequence[ParquetFile], folder: Path, say: Say) -> None:
    for file in files:
        for outdated in folder.glob(f"*-{_path_key(file)}-*.arrow"):
            outdated.unlink(missing_ok=True)
    needed, free = round(_ROOM * sum(file.image_bytes() for file in files)), shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"reading {shown(files[0].path.parent)} from files needs a copy of {size_in_words(needed, up=True)} in "
            f"{shown(folder)}, which has {size_in_words(free)} free; make room, or set STILLROOM_CACHE=FOLDER, on "
            "a larger disk"
        )
    if files:
        what = f"{counted(len(files), 'Parquet file')} of {shown(files[0].path.parent)}"
        size = size_in_words(needed, up=True)
        say(f"copying {what} once, {size}, to {shown(folder)}: single rows of Parquet cannot be read")
    last = time.monotonic()
    for done, file in enumerate(files):
        if time.monotonic() - last > _SAY_SECONDS:
            last = time.monotonic()
            say(f"{done:,} of {counted(len(files), 'Parquet file')} copied")
        _copy(file, folder)


def _copy(file: ParquetFile, folder: Path) -> None:
    path = folder / _copy_name(file)
    arrow: Any = importlib.import_module("pyarrow")  # late because it is slow

    def write(aside: Path) -> None:
        with arrow.OSFile(str(aside), "wb") as sink, arrow.ipc.new_stream(sink, file.schema()) as writer:
            for batch in file.batches():
                writer.write_batch(batch)
        if file_state(file.path.stat()) != file.state:
            raise InputError(f"{shown(file.path)} has changed while it was copied; run the same command again")
        # Copies of one state are the same files, also where several processes make them on a disk without locks.
        os.utime(aside, ns=(file.state[1], file.state[1]))

    try:
        write_atomically(path, write)
    except OSError as error:
        raise write_failure(path, error, file.image_bytes()) from None


@contextmanager
def _locked(folder: Path, say: Say) -> Iterator[bool]:
    """Wait for other processes that copy; yield whether there is a lock, which some network disks do not support."""
    from filelock import FileLock, Timeout

    try:
        make_folder(folder)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError(f"{shown(folder)} cannot be made ({reason}); set STILLROOM_CACHE to another folder") from None
    lock = FileLock(folder / _LOCK, timeout=0, fallback_to_soft=False)
    try:
        try:
            lock.acquire()
        except Timeout:
            say(f"waiting for another process, which copies Parquet files to {shown(folder)}")
            lock.acquire(timeout=-1)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
