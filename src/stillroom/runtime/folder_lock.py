"""An exclusive lock on a folder, which the system releases when the process ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stillroom.errors import InUse

MOMENT = 0.1  # seconds


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Acquire an exclusive folder lock.

    Args:
        path: the lock's file in the folder; it exists only while the lock is held, or after its holder was killed.

    Yields:
        Whether the lock was acquired. Some network disks support none; then everybody goes on without.

    Raises:
        InUse: another process holds it.
    """
    from filelock import FileLock, Timeout  # here, for it takes longer to import than `stillroom --help` to print

    # The soft lock, a marker file, would outlive a process that was killed. The moment is for a holder that is leaving.
    lock = FileLock(path, timeout=MOMENT, fallback_to_soft=False)
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
            with suppress(OSError):  # as on a full disk
                path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield acquired
    finally:
        if acquired:
            # Removed while it is locked: whoever has opened it by now sees that it is gone, and opens another.
            with suppress(OSError):
                path.unlink(missing_ok=True)
            lock.release()


def _holder(path: Path) -> str:
    """The process that wrote its name into the lock's file."""
    with suppress(OSError), path.open(errors="replace") as file:
        return file.read(300) or "another process"
    return "another process"
