"""The files of a teacher bank: a block of logits each, whole or not there, and checked when it is read."""

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

FREE_BYTES, FREE_SHARE = 10**9, 0.05  # of the disk, whichever is less, stays free for checkpoints


class BlockFiles:
    """Blocks of logits on disk, by view, epoch and number.

    Args:
        folder: where all banks lie; this one takes ``folder/<digest of its key>``.
        key: what decides the logits.
        stripe: this process and the number of processes; every process has blocks of its own.
        rows: the most a block has.
        limit: bytes that ``folder`` may hold with all banks in it.
        say: receives one line when a file is damaged.

    Raises:
        InputError: if the folder cannot be written or belongs to another key.
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
        """Where a block lies when it is stored."""
        stripe = f"rank{self.rank}of{self.world_size}"
        return self.path / f"{view}-epoch{epoch:04d}-block{index:04d}-{stripe}.safetensors"

    def load(self, view: str, epoch: int, index: int) -> Tensor | None:
        """A stored block, (rows, C) in float16 or float32; None where there is none that is whole."""
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
            problem = "other content than its place says"
        if not self._warned:
            self._warned = True
            self.say(
                f"warning: teacher bank: {path} is damaged or foreign ({problem}) and not used; such blocks are "
                "computed again"
            )
        return None

    def store(self, view: str, epoch: int, index: int, logits: Tensor) -> None:
        """Write a block.

        Args:
            view: what kind of logits.
            epoch: they belong to.
            index: number of the block.
            logits: (rows, C) on the CPU, float16 or float32.

        Raises:
            OSError: it cannot be written, or there is no room left for it.
        """
        data = safetensors.torch.save({"logits": logits}, self._facts(view, epoch, index, logits))

        def fill(aside: Path) -> None:
            with aside.open("r+b") as file:
                file.truncate(len(data))  # claims its size, so that runs that write at once count each other
                self._check_room(len(data))
                file.write(data)

        write_atomically(self.path_of(view, epoch, index), fill)

    def _check_room(self, size: int) -> None:
        if sum(file.stat().st_size for file in _files(self.folder)) > self.limit:
            raise OSError(errno.ENOSPC, "the limit is reached")
        disk = shutil.disk_usage(self.path)
        if disk.free - size < min(FREE_BYTES, FREE_SHARE * disk.total):
            raise OSError(errno.ENOSPC, f"only {disk.free / 1e9:.3g} GB of the disk are free, kept for checkpoints")

    def _facts(self, view: str, epoch: int, index: int, logits: Tensor) -> dict[str, str]:
        """What a block's file says about itself."""
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
        """Make the folder or recognise it, and remove what killed runs left."""
        path, said = self.path / "key.json", self.path / "probe.json"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                write_text(said, json.dumps(self.key.probe) + "\n")
                write_text(path, json.dumps(self.key.plain(), indent=2) + "\n")
            elif not os.access(self.path, os.W_OK):
                raise PermissionError(errno.EACCES, "Permission denied")
            there, probe = read_json(path), read_json(said)
        except OSError as error:
            raise InputError(
                f"teacher bank {self.path} cannot be written ({error.strerror}); choose another bank= folder, "
                "or leave bank= out"
            ) from error
        except ValueError as error:
            raise InputError(f"teacher bank: {path} is damaged; delete the folder {self.path}") from error
        self._refuse_other(there if isinstance(there, dict) else {})
        if words := difference(probe, [list(row) for row in self.key.probe]):
            raise InputError(
                f"teacher bank {self.path} holds the logits of another teacher ({words}); give another bank= folder, "
                "or leave bank= out"
            )
        remove_temporary_files(map(Path, _files(self.folder)))

    def _refuse_other(self, there: dict[str, Any]) -> None:
        now = self.key.plain()
        changed = [
            f"{name} {there.get(name)!r} there, {now.get(name)!r} now"
            for name in {**there, **now}
            if there.get(name) != now.get(name)
        ]
        if changed:
            raise InputError(
                f"teacher bank {self.path} was made for something else ({'; '.join(changed)}); it was copied or "
                "edited: delete that folder"
            )


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Every file below a folder whose size can be asked for; others come and go meanwhile, or are private."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry))
                continue
            with suppress(OSError):
                entry.stat()  # remembered by the entry
                yield entry
