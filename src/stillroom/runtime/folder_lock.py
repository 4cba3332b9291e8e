"""A lock that one process at a time can have, and that the system takes back when the process ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stillroom.errors import InUse


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Have a folder to oneself.

    Args:
        path: the lock's file in the folder; there only while somebody has the lock, or was killed with it.

    Yields:
        Whether the lock could be had: some network disks and Windows have none, and everybody goes on without.

    Raises:
        InUse: another process has it.
    """
    lock = _take(path)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            os.close(lock)


def _take(path: Path) -> int | None:
    """The open and locked file; None where that cannot be done."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    while True:
        try:
            # Not through a link, which in a folder from elsewhere could have any file of the user's written over.
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError:
            return None  # what is wrong with the folder shows when something is written
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(lock, path):
                _sign(lock)
                return lock
        except BlockingIOError as error:
            owner = os.read(lock, 300).decode(errors="replace") or "another process"
            os.close(lock)
            raise InUse(
                f"run folder {path.parent} is in use: {owner} is at work on this run; wait for it or stop it, or give "
                "another name="
            ) from error
        except OSError:
            os.close(lock)
            return None
        os.close(lock)  # its owner let go of it and removed it just now


def _is_at(lock: int, path: Path) -> bool:
    """Whether an open file is the one that others would open."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


def _sign(lock: int) -> None:
    """Say who has it."""
    with suppress(OSError):  # as on a full disk
        os.ftruncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
