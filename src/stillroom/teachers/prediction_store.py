"""Prediction store: a remote teacher's predictions on disk, by the content of the image.

One SQLite file in the bank folder holds the predictions of one teacher. Each response is stored in a transaction of its
own: after a kill, at most the responses that were on their way are missing. Several processes may use the file.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stillroom.errors import InputError
from stillroom.files import make_folder, shown
from stillroom.teachers.bank_files import check_bank_room

BUSY_SECONDS = 60.0  # how long to wait for another process that writes
_KEYS_AT_ONCE = 500  # SQLite allows 999 parameters in old versions
_TABLES = """
CREATE TABLE IF NOT EXISTS teacher (identity TEXT NOT NULL, sent INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS predictions (key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER NOT NULL)
    WITHOUT ROWID;
"""


def image_keys(pixels: Tensor) -> list[bytes]:
    """A digest of each image's values, type and shape, 16 bytes.

    Args:
        pixels: (B, C, H, W), any type and device.
    """
    values = pixels.detach().cpu().contiguous()
    form = f"{values.dtype} {tuple(values.shape[1:])}".encode()
    return [hashlib.sha256(form + image.numpy().tobytes()).digest()[:16] for image in values]


class PredictionStore:
    """Rows of float32 values by key, and how many images were ever sent.

    Args:
        folder: the bank folder; created if it is missing.
        identity: of the teacher.
        limit_bytes: largest total size of the folder, all banks included.
        say: called with each message for the user.

    Attributes:
        path: the file.
        storing: whether new predictions are stored; false once the folder or the disk is full.

    Raises:
        InputError: the file cannot be opened, is damaged, or belongs to another teacher.
    """

    def __init__(self, folder: Path, identity: str, *, limit_bytes: int, say: Callable[[str], None]) -> None:
        self.folder, self.limit, self.say, self.storing = folder, limit_bytes, say, True
        self.path = folder / f"predictions-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.sqlite"
        self._lock = threading.Lock()
        self._warned = False
        try:
            make_folder(folder)
        except OSError as error:
            raise InputError(
                f"{shown(folder)} cannot be written ({error.strerror}); choose another bank= folder"
            ) from error
        with self._clear_errors():
            self._database = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode=WAL")  # readers do not wait for a writer
            self._prepare(identity)

    @property
    def sent(self) -> int:
        """Images that were ever sent to this teacher, by all runs with this file."""
        with self._clear_errors():
            return int(self._database.execute("SELECT sent FROM teacher").fetchone()[0])

    def read(self, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
        """The stored rows among some keys, each float32 (values,). A damaged row counts as missing."""
        found: dict[bytes, Tensor] = {}
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            part = keys[start : start + _KEYS_AT_ONCE]
            query = f"SELECT key, value, checksum FROM predictions WHERE key IN ({','.join('?' * len(part))})"  # noqa: S608
            with self._clear_errors():
                rows = self._database.execute(query, part).fetchall()
            for key, value, checksum in rows:
                if zlib.crc32(key + value) == checksum and len(value) % 4 == 0:
                    found[key] = torch.from_numpy(np.frombuffer(value, "<f4").astype(np.float32))
                elif not self._warned:
                    self._warned = True
                    self.say(f"warning: {shown(self.path)} has damaged predictions; they are requested again")
        return found

    def write(self, keys: Sequence[bytes], rows: Tensor) -> None:
        """Store predictions at once, all or none; from any thread.

        Args:
            keys: one a row.
            rows: float32 (rows, values) on the CPU.
        """
        values = [row.numpy().astype("<f4", copy=False).tobytes() for row in rows]
        entries = [(key, value, zlib.crc32(key + value)) for key, value in zip(keys, values, strict=True)]
        if not self.storing:
            return
        try:
            check_bank_room(self.folder, self.limit, sum(map(len, values)))
            with self._clear_errors(), self._transaction():
                self._database.executemany("INSERT OR REPLACE INTO predictions VALUES (?, ?, ?)", entries)
        except OSError as error:
            self._stop(error.strerror or str(error))
        except sqlite3.OperationalError as error:  # the disk is full or became read-only
            self._stop(str(error))

    def reserve(self, images: int, budget: int | None) -> bool:
        """Count images before they are sent.

        Args:
            images: how many will be sent.
            budget: the largest number that may ever be sent; None for any.

        Returns:
            Whether the budget allows them; otherwise nothing was counted.
        """
        with self._clear_errors(), self._transaction():
            limit = 2**62 if budget is None else budget
            done = self._database.execute(
                "UPDATE teacher SET sent = sent + ? WHERE sent + ? <= ?", (images, images, limit)
            )
            return done.rowcount == 1

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _prepare(self, identity: str) -> None:
        """Create the tables, or check that they belong to this teacher."""
        self._database.executescript(_TABLES)
        with self._transaction():
            self._database.execute(
                "INSERT INTO teacher SELECT ?, 0 WHERE NOT EXISTS (SELECT 1 FROM teacher)", (identity,)
            )
        if self._database.execute("SELECT identity FROM teacher").fetchall() != [(identity,)]:
            raise InputError(f"{shown(self.path)} belongs to another teacher; delete it")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All statements inside take effect together; threads of this process take turns."""
        with self._lock, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """Say in words that the file is damaged or cannot be opened."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "unable to open" in str(error):
                raise InputError(
                    f"{shown(self.path)} cannot be opened ({error}); choose another bank= folder"
                ) from error
            raise
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{shown(self.path)}, which holds the teacher's predictions, is damaged ({error}); delete it, and its "
                "predictions are requested again"
            ) from error

    def _stop(self, reason: str) -> None:
        if self.storing:
            self.storing = False
            self.say(
                f"warning: predictions of the teacher in {shown(self.path)}: {reason}. This run stores no more of "
                "them: from now on an image may be requested twice. bank_gb is "
                f"{self.limit / 1e9:.3g}: raise it, or free disk space"
            )
