"""Exclusive folder lock, which the operating system releases when the process ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stillroom.errors import InUse

MOMENT = 0.1  # seconds in which an ending holder finishes


@contextmanager
def locked(path: Path, patience: float = MOMENT) -> Iterator[bool]:
    """Acquire an exclusive folder lock.

    Args:
        path: the lock file in the folder; it exists while the lock is held, and after its holder was killed.
        patience: seconds to wait for another holder.

    Yields:
        Whether the lock was acquired. Some network disks support no locks; then the block runs without one.

    Raises:
        InUse: another process holds it.
    """
    from filelock import FileLock, Timeout  # imported here: importing it would slow `stillroom --help`

    # A soft lock (a marker file) would remain after its process was killed.
    lock = FileLock(path, timeout=patience, fallback_to_soft=False)
    acquired = False
    try:
        lock.acquire()
        acquired = True
    except Timeout as error:
        raise InUse(
            f"run folder {path.parent} is in use: {_holder(path)} is at work on this run; wait for it or stop it, or "
            "give another name="
        ) from error
    except OSError:
        pass  # a symlink, or a folder that cannot be written: the error shows when something is written
    try:
        if acquired:
            with suppress(OSError):  # for example, the disk is full
                path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield acquired
    finally:
        if acquired:
            # Remove the file before releasing: a process that has it open sees that it is gone and opens a new one.
            with suppress(OSError):
                path.unlink(missing_ok=True)
            lock.release()


def _holder(path: Path) -> str:
    """The process named in the lock file."""
    with suppress(OSError), path.open(errors="replace") as file:
        return file.read(300) or "another process"
    return "another process"


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a folder; a lock file that a killed process left is not held.

    Args:
        path: the lock file.
    """
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    lock = FileLock(path, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False
