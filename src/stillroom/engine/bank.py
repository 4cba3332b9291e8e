"""The teacher bank: a teacher's logits on disk, so that of all its students only the first pays for the teacher.

Order and augmentation are functions of (seed, epoch, sample id), so the logits at a position of an epoch's order
depend on nothing but what :class:`BankKey` names. They are stored by blocks of positions, whatever the batch size.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stillroom.data import MemoryLoader
from stillroom.engine.bank_key import BLOCK, BankKey
from stillroom.errors import InputError, first_line
from stillroom.files import write_atomically, write_text

BLOCK_BYTES = 64 * 2**20  # many classes make a block shorter
FREE_BYTES, FREE_SHARE = 10**9, 0.05  # of the disk, whichever is less, stays free for checkpoints
ABANDONED_SECONDS = 3600  # a file that nobody wrote to for so long was left by a killed run, here or elsewhere
_ASIDE = re.compile(r"\..+\.(safetensors|json)\.[0-9a-f]+\.tmp")  # as write_atomically names it


def positions_of(loader: MemoryLoader) -> int:
    """The number of pictures that this process sees in an epoch of a loader."""
    seen = min(len(loader) * loader.batch_size, len(loader.images))
    return len(range(loader.rank, seen, loader.world_size))


@dataclass(frozen=True)
class View:
    """One kind of logits in the bank.

    Attributes:
        positions: pictures this process sees in an epoch, >= 1.
        epochs: epochs the whole run asks for, >= 1; only for the sizes that are told.
    """

    positions: int
    epochs: int


@dataclass
class _Pending:
    """The first rows of a block that is not yet complete."""

    place: tuple[int, int]
    chunks: list[Tensor] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(map(len, self.chunks))


class TeacherBank:
    """Logits of one teacher, read and written in the order in which training goes through an epoch.

    Position ``i`` of this process is position ``i * world_size + rank`` of the epoch's order, as ``MemoryLoader``
    deals the pictures out. Every process has files of its own and needs no word from the others; another
    ``world_size`` finds nothing. At most two blocks a view are held in memory, and one that is being filled.

    Args:
        folder: where all banks lie; this one takes ``folder/<digest of its key>``.
        key: what decides the logits.
        views: what is stored, by short names such as "logits", "logits_strong" and "val".
        limit_bytes: what ``folder`` may hold with all banks in it.
        say: receives a line when something is worth one.
        rank: this process, in [0, world_size).
        world_size: number of processes.

    Raises:
        InputError: if the folder cannot be written or belongs to another key.
    """

    def __init__(
        self,
        folder: Path,
        key: BankKey,
        *,
        views: Mapping[str, View],
        limit_bytes: int,
        say: Callable[[str], None],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.folder, self.key, self.path = folder, key, folder / key.digest
        self.views, self.limit_bytes, self.say = views, limit_bytes, say
        self.rank, self.world_size = rank, world_size
        self.rows = max(1, min(BLOCK, BLOCK_BYTES // (4 * key.classes)))
        self.storing = True
        self._known: dict[str, dict[tuple[int, int], Tensor | None]] = {view: {} for view in views}
        self._pending: dict[str, _Pending] = {}
        self._warned = False
        self._open()

    @property
    def needed_bytes(self) -> int:
        """What all logits of the whole run take, over all processes; 2 bytes each."""
        rows = sum(view.positions * view.epochs for view in self.views.values())
        return 2 * rows * self.key.classes * self.world_size

    @property
    def training_views(self) -> tuple[str, ...]:
        """The views of the training pictures."""
        return tuple(view for view in self.views if view != "val")

    @staticmethod
    def rounded(logits: Tensor) -> Tensor:
        """What the bank gives back for logits (N, C): float32 (N, C) on the same device.

        Rows that fit float16 come back rounded to it, with an error of at most 2^-11 of the value (2^-25 where it is
        below 2^-14). Rows in which a value does not fit come back as they are. Train on these values also when they
        were computed just now, and runs that fill the bank and runs that read it are the same.
        """
        half = logits.half()
        low, high = half.aminmax(dim=1, keepdim=True)  # on the CPU many times faster than to ask each value
        return torch.where(low.isfinite() & high.isfinite(), half.float(), logits.float())

    def read(self, view: str, epoch: int, start: int, count: int) -> Tensor | None:
        """Look up the logits of this process's positions ``start`` to ``start + count`` in an epoch.

        Whether a block is there is looked up once, when an epoch first comes to it.

        Returns:
            float32 (count, C) on the CPU; None if not all of them are there.
        """
        pieces = []
        for index, part in self._split(start, count):
            block = self._block(view, epoch, index)
            if block is None or len(block) < part.stop:
                return None
            pieces.append(block[part].float())
        return torch.cat(pieces)

    def read_all(self, views: Iterable[str], epoch: int, start: int, count: int) -> dict[str, Tensor] | None:
        """Look up several views at once; None if any row of any of them is not there."""
        found: dict[str, Tensor] = {}
        for view in views:
            logits = self.read(view, epoch, start, count)
            if logits is None:
                return None
            found[view] = logits
        return found

    def write(self, view: str, epoch: int, start: int, logits: Tensor) -> None:
        """Hand in what was computed because :meth:`read` gave None.

        Logits are copied where they are and go to the CPU and to disk when their block is complete. A block whose
        beginning was not handed in, as after a resume inside it, is left to the next run.

        Args:
            view: one of ``views``.
            epoch: as for :meth:`read`.
            start: position of the first row.
            logits: (count, C), any device.
        """
        for index, part in self._split(start, len(logits)):
            first = index * self.rows + part.start - start
            self._gather(view, (epoch, index), part.start, logits[first : first + part.stop - part.start])

    def _split(self, start: int, count: int) -> Iterator[tuple[int, slice]]:
        """The blocks that hold a range of positions, each with the rows in it."""
        end = start + count
        while start < end:
            index, offset = divmod(start, self.rows)
            stop = min(self.rows, offset + end - start)
            yield index, slice(offset, stop)
            start += stop - offset

    def _gather(self, view: str, place: tuple[int, int], offset: int, rows: Tensor) -> None:
        epoch, index = place
        size = min(self.rows, self.views[view].positions - index * self.rows)
        stored = self._block(view, epoch, index)
        there = 0 if stored is None else len(stored)
        if not self.storing or there >= size:
            return
        pending = self._pending.get(view)
        if pending is None or pending.place != place or pending.count != offset:
            pending = self._pending[view] = _Pending(place)
            if offset > there:
                return
            if stored is not None:  # by a run that dropped the last, smaller batch of the epoch
                pending.chunks.append(stored[:offset].to(rows.device, torch.float32))
        pending.chunks.append(rows.detach().to(torch.float32, copy=True))
        if pending.count == size:
            del self._pending[view]
            self._store(view, place, torch.cat(pending.chunks))

    def _block(self, view: str, epoch: int, index: int) -> Tensor | None:
        """A stored block, (rows, C) in float16 or float32; None where there is none."""
        known = self._known[view]
        if (epoch, index) not in known:
            while len(known) >= 2:
                del known[next(iter(known))]
            known[epoch, index] = self._load(view, epoch, index)
        return known[epoch, index]

    def _load(self, view: str, epoch: int, index: int) -> Tensor | None:
        path = self._file(view, epoch, index)
        try:
            with safe_open(path, framework="pt") as file:
                logits: Tensor = file.get_tensor("logits").clone()
                facts = file.metadata()
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
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

    def _store(self, view: str, place: tuple[int, int], logits: Tensor) -> None:
        half = logits.half()
        fits = bool(torch.stack(half.aminmax()).isfinite().all())
        rows = (half if fits else self.rounded(logits)).cpu()
        data = safetensors.torch.save({"logits": rows}, self._facts(view, *place, rows))

        def fill(aside: Path) -> None:
            with aside.open("r+b") as file:
                file.truncate(len(data))  # claims its size, so that runs that write at once count each other
                self._check_room(len(data))
                file.write(data)

        try:
            write_atomically(self._file(view, *place), fill)
        except OSError as error:
            self._stop(error.strerror or str(error))
        self._known[view].pop(place, None)

    def _check_room(self, size: int) -> None:
        if sum(file.stat().st_size for file in _files(self.folder)) > self.limit_bytes:
            raise OSError(errno.ENOSPC, "the limit is reached")
        disk = shutil.disk_usage(self.path)
        if disk.free - size < min(FREE_BYTES, FREE_SHARE * disk.total):
            raise OSError(errno.ENOSPC, f"only {disk.free / 1e9:.3g} GB of the disk are free, kept for checkpoints")

    def _stop(self, reason: str) -> None:
        self.storing = False
        self._pending.clear()
        self.say(
            f"warning: teacher bank {self.folder}: {reason}. This run stores no more logits and goes on with those "
            f"there are. The whole run takes {self.needed_bytes / 1e9:.3g} GB beside other banks there; "
            f"bank_gb is {self.limit_bytes / 1e9:.3g}: raise it, or make room"
        )

    def _file(self, view: str, epoch: int, index: int) -> Path:
        stripe = f"rank{self.rank}of{self.world_size}"
        return self.path / f"{view}-epoch{epoch:04d}-block{index:04d}-{stripe}.safetensors"

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
        path = self.path / "key.json"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                write_text(path, json.dumps(self.key.plain(), indent=2) + "\n")
            elif not os.access(self.path, os.W_OK):
                raise PermissionError(errno.EACCES, "Permission denied")
            there = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(
                f"teacher bank {self.path} cannot be written ({error.strerror}); choose another bank= folder, "
                "or leave bank= out"
            ) from error
        except ValueError as error:
            raise InputError(f"teacher bank: {path} is damaged; delete the folder {self.path}") from error
        self._refuse_other(there if isinstance(there, dict) else {})
        for file in _files(self.folder):
            if _ASIDE.fullmatch(file.name) and time.time() - file.stat().st_mtime > ABANDONED_SECONDS:
                with suppress(OSError):  # not ours to remove
                    Path(file).unlink()

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
