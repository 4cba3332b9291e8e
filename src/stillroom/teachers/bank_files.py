"""Teacher bank files: one block of logits per file, written atomically and verified when read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from stillroom.errors import InputError, first_line
from stillroom.files import remove_temporary_files, write_atomically, write_text
from stillroom.models.weight_files import read_safetensors
from stillroom.reading import UnreadableError, read_json
from stillroom.teachers.bank_key import BankKey
from stillroom.teachers.bank_rows import row_bytes
from stillroom.teachers.logit_fingerprint import difference

FREE_BYTES, FREE_FRACTION = 10**9, 0.05  # of the disk: the smaller one stays free for checkpoints


class BlockPlace(NamedTuple):
    """What a block holds: rows of one stripe of an epoch.

    Attributes:
        view: kind of logits.
        epoch: whose order and augmentation the images have.
        block: index of the block in the stripe.
        rank: index of the stripe, which is the rank of the process that wrote it.
        world_size: number of stripes.
    """

    view: str
    epoch: int
    block: int
    rank: int
    world_size: int


class BlockFiles:
    """Blocks of packed logits on disk.

    Args:
        folder: the folder of all banks; this bank is ``folder/<digest of its key>``.
        key: what determines the logits.
        rows: largest number of rows of a block.
        limit: largest total size of ``folder`` in bytes, all banks included.
        say: called with one message if a file is damaged.

    Raises:
        InputError: the folder cannot be written, or it belongs to another key.
    """

    def __init__(self, folder: Path, key: BankKey, *, rows: int, limit: int, say: Callable[[str], None]) -> None:
        self.folder, self.key, self.path = folder, key, folder / key.digest
        self.rows, self.limit, self.say = rows, limit, say
        self._warned = False
        self._verified: dict[BlockPlace, str] = {}  # digest of each block of which rows were read
        self._open()

    def path_of(self, place: BlockPlace) -> Path:
        """Path of a block's file."""
        view, epoch, block, rank, world_size = place
        return self.path / f"{view}-epoch{epoch:04d}-block{block:04d}-rank{rank}of{world_size}.safetensors"

    def world_sizes(self, view: str, epoch: int) -> list[int]:
        """The numbers of processes that have stored blocks of an epoch, increasing."""
        name = re.compile(rf"{view}-epoch{epoch:04d}-block\d+-rank\d+of([1-9]\d{{0,5}})\.safetensors")
        with suppress(OSError):
            found = (name.fullmatch(path.name) for path in self.path.iterdir())
            return sorted({int(match[1]) for match in found if match})
        return []

    def load(self, place: BlockPlace, rows: slice | None = None) -> Tensor | None:
        """Packed rows of a stored block; None if it is missing or damaged.

        Args:
            place: of the block.
            rows: which rows; only these are read, after the file was read and verified once. None for all.
        """
        path = self.path_of(place)
        try:
            tensors, facts = read_safetensors(path)
            packed = tensors["logits"]
            known = None if rows is None else self._verified.get(place)
            if not self._has_shape(packed) or facts != self._facts(place, packed, known):
                raise UnreadableError(path, "its content does not match its file name")
        except FileNotFoundError:
            return None
        except (OSError, UnreadableError, KeyError) as error:
            self._warn(path, first_line(error))
            return None
        if rows is None:
            return packed.clone()
        self._verified[place] = facts["sha256"]
        return packed[rows].clone()

    def store(self, place: BlockPlace, packed: Tensor) -> None:
        """Write a block.

        Args:
            place: of the block.
            packed: rows as :mod:`stillroom.teachers.bank_rows` packs them, on the CPU.

        Raises:
            OSError: it cannot be written, or the size limit or the disk is full.
        """
        data = safetensors.torch.save({"logits": packed}, self._facts(place, packed))

        def fill(aside: Path) -> None:
            with aside.open("r+b") as file:
                file.truncate(
                    len(data)
                )  # reserves the size, so that runs that write at the same time count each other's files
                check_bank_room(self.folder, self.limit, len(data))
                file.write(data)

        write_atomically(self.path_of(place), fill)

    def _has_shape(self, packed: Tensor) -> bool:
        """Whether a tensor can be a block of this bank."""
        width = row_bytes(self.key.classes, self.key.bits) if packed.dtype == torch.uint8 else self.key.classes
        formats = (torch.uint8 if self.key.bits == 8 else torch.float16, torch.float32)
        return packed.dtype in formats and packed.ndim == 2 and packed.shape[1] == width and len(packed) <= self.rows

    def _facts(self, place: BlockPlace, packed: Tensor, sha256: str | None = None) -> dict[str, str]:
        """Metadata of a block's file; ``sha256`` is that of its rows where it is known."""
        return {
            "key": self.key.digest,
            "view": place.view,
            "epoch": str(place.epoch),
            "block": str(place.block),
            "stripe": f"{place.rank} of {place.world_size}",
            "count": str(len(packed)),
            "sha256": sha256 or hashlib.sha256(packed.contiguous().numpy().data).hexdigest(),
        }

    def _warn(self, path: Path, problem: str) -> None:
        if not self._warned:
            self._warned = True
            self.say(
                f"warning: teacher bank: {path} is damaged or belongs to another bank ({problem}); the logits of "
                "such files are computed again"
            )

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
