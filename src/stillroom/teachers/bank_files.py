"""Teacher bank files: one block of logits per file, written atomically and verified when read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from stillroom.errors import InputError, first_line
from stillroom.files import remove_temporary_files, write_atomically, write_text
from stillroom.models.weight_files import read_safetensors
from stillroom.reading import UnreadableError, read_json
from stillroom.teachers.bank_key import BankKey
from stillroom.teachers.logit_fingerprint import difference

FREE_BYTES, FREE_FRACTION = 10**9, 0.05  # of the disk: the smaller one stays free for checkpoints


class BlockFiles:
    """Blocks of logits on disk, by view, epoch and index.

    Args:
        folder: the folder of all banks; this bank is ``folder/<digest of its key>``.
        key: what determines the logits.
        stripe: rank of this process and number of processes; every process has its own blocks.
        rows: largest number of rows of a block.
        limit: largest total size of ``folder`` in bytes, all banks included.
        say: called with one message if a file is damaged.

    Raises:
        InputError: the folder cannot be written, or it belongs to another key.
    """

    def __init__(
        self, folder: Path, key: BankKey, stripe: tuple[int, int], *, rows: int, limit: int, say: Callable[[str], None]
    ) -> None:
        self.folder, self.key, self.path = folder, key, folder / key.digest
        self.rows, self.limit, self.say = rows, limit, say
        self.rank, self.world_size = stripe
        self._warned = False
        self._open()

    def path_of(self, view: str, epoch: int, index: int) -> Path:
        """Path of a block's file."""
        stripe = f"rank{self.rank}of{self.world_size}"
        return self.path / f"{view}-epoch{epoch:04d}-block{index:04d}-{stripe}.safetensors"

    def load(self, view: str, epoch: int, index: int) -> Tensor | None:
        """A stored block, (rows, C) in float16 or float32; None if it is missing or damaged."""
        path = self.path_of(view, epoch, index)
        try:
            tensors, facts = read_safetensors(path)
            logits = tensors["logits"].clone()
        except FileNotFoundError:
            return None
        except (OSError, UnreadableError, KeyError) as error:
            problem = first_line(error)
        else:
            right_shape = logits.ndim == 2 and logits.shape[1] == self.key.classes and len(logits) <= self.rows
            if right_shape and facts == self._facts(view, epoch, index, logits):
                return logits
            problem = "its content does not match its file name"
        if not self._warned:
            self._warned = True
            self.say(
                f"warning: teacher bank: {path} is damaged or belongs to another bank ({problem}); the logits of "
                "such files are computed again"
            )
        return None

    def store(self, view: str, epoch: int, index: int, logits: Tensor) -> None:
        """Write a block.

        Args:
            view: kind of logits.
            epoch: their epoch.
            index: index of the block in the epoch.
            logits: (rows, C) on the CPU, float16 or float32.

        Raises:
            OSError: it cannot be written, or the size limit or the disk is full.
        """
        data = safetensors.torch.save({"logits": logits}, self._facts(view, epoch, index, logits))

        def fill(aside: Path) -> None:
            with aside.open("r+b") as file:
                file.truncate(
                    len(data)
                )  # reserves the size, so that runs that write at the same time count each other's files
                check_bank_room(self.folder, self.limit, len(data))
                file.write(data)

        write_atomically(self.path_of(view, epoch, index), fill)

    def _facts(self, view: str, epoch: int, index: int, logits: Tensor) -> dict[str, str]:
        """Metadata of a block's file."""
        return {
            "key": self.key.digest,
            "view": view,
            "epoch": str(epoch),
            "block": str(index),
            "stripe": f"{self.rank} of {self.world_size}",
            "count": str(len(logits)),
            "sha256": hashlib.sha256(logits.contiguous().numpy().data).hexdigest(),
        }

    def _open(self) -> None:
        """Create the folder or check that it has this key, and remove temporary files of killed runs."""
        path, probe_path = self.path / "key.json", self.path / "probe.json"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                write_text(probe_path, json.dumps(self.key.probe) + "\n")
                write_text(path, json.dumps(self.key.plain(), indent=2) + "\n")
            elif not os.access(self.path, os.W_OK):
                raise PermissionError(errno.EACCES, "Permission denied")
            stored_key, stored_probe = read_json(path), read_json(probe_path)
        except OSError as error:
            raise InputError(
                f"teacher bank {self.path} cannot be written ({error.strerror}); choose another bank= folder, "
                "or leave bank= out"
            ) from error
        except ValueError as error:
            raise InputError(f"teacher bank: {path} is damaged; delete the folder {self.path}") from error
        self._check_key(stored_key if isinstance(stored_key, dict) else {})
        if problem := difference(stored_probe, [list(row) for row in self.key.probe]):
            raise InputError(
                f"teacher bank {self.path} holds the logits of another teacher ({problem}); give another bank= folder, "
                "or leave bank= out"
            )
        remove_temporary_files(map(Path, _files(self.folder)))

    def _check_key(self, stored: dict[str, Any]) -> None:
        now = self.key.plain()
        changed = [
            f"{name} {stored.get(name)!r} there, {now.get(name)!r} now"
            for name in {**stored, **now}
            if stored.get(name) != now.get(name)
        ]
        if changed:
            raise InputError(
                f"teacher bank {self.path} has another key ({'; '.join(changed)}): it was copied or edited; "
                "delete that folder"
            )


def check_bank_room(folder: Path, limit: int, size: int) -> None:
    """Check that the bank folder may grow.

    Args:
        folder: of all banks.
        limit: largest total size of its files in bytes.
        size: bytes that will be written.

    Raises:
        OSError: its files exceed the limit, or the disk is nearly full.
    """
    if sum(file.stat().st_size for file in _files(folder)) > limit:
        raise OSError(errno.ENOSPC, "the size limit is reached")
    disk = shutil.disk_usage(folder)
    if disk.free - size < min(FREE_BYTES, FREE_FRACTION * disk.total):
        raise OSError(errno.ENOSPC, f"only {disk.free / 1e9:.3g} GB of the disk are free, kept for checkpoints")


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Every file below a folder whose size can be read; files that vanish or are private are skipped."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry))
                continue
            with suppress(OSError):
                entry.stat()  # the entry caches the result
                yield entry
