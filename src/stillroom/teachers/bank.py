"""The teacher bank: a teacher's logits on disk, so that of all its students only the first pays for the teacher.

Order and augmentation are functions of (seed, epoch, sample id), so the logits at a position of an epoch's order
depend on nothing but what :class:`BankKey` names. They are stored by blocks of positions, whatever the batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from stillroom.data import MemoryLoader
from stillroom.teachers.bank_files import BlockFiles
from stillroom.teachers.bank_key import BLOCK, BankKey

BLOCK_BYTES = 64 * 2**20  # many classes make a block shorter


def positions_of(loader: MemoryLoader) -> int:
    """The number of images that this process sees in an epoch of a loader."""
    seen = min(len(loader) * loader.batch_size, len(loader.images))
    return len(range(loader.rank, seen, loader.world_size))


@dataclass(frozen=True)
class View:
    """One kind of logits in the bank.

    Attributes:
        positions: images this process sees in an epoch, >= 1.
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
    deals the images out. Every process has files of its own and needs no word from the others; another
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
        self.key, self.views, self.say, self.world_size = key, views, say, world_size
        self.rows = max(1, min(BLOCK, BLOCK_BYTES // (4 * key.classes)))
        self.files = BlockFiles(folder, key, (rank, world_size), rows=self.rows, limit=limit_bytes, say=say)
        self.storing = True
        self._known: dict[str, dict[tuple[int, int], Tensor | None]] = {view: {} for view in views}
        self._pending: dict[str, _Pending] = {}

    @property
    def needed_bytes(self) -> int:
        """What all logits of the whole run take, over all processes; 2 bytes each."""
        rows = sum(view.positions * view.epochs for view in self.views.values())
        return 2 * rows * self.key.classes * self.world_size

    @property
    def training_views(self) -> tuple[str, ...]:
        """The views of the training images."""
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
            known[epoch, index] = self.files.load(view, epoch, index)
        return known[epoch, index]

    def _store(self, view: str, place: tuple[int, int], logits: Tensor) -> None:
        half = logits.half()
        fits = bool(torch.stack(half.aminmax()).isfinite().all())
        try:
            self.files.store(view, *place, (half if fits else self.rounded(logits)).cpu())
        except OSError as error:
            self._stop(error.strerror or str(error))
        self._known[view].pop(place, None)

    def _stop(self, reason: str) -> None:
        self.storing = False
        self._pending.clear()
        self.say(
            f"warning: teacher bank {self.files.folder}: {reason}. This run stores no more logits and goes on with "
            f"those there are. The whole run takes {self.needed_bytes / 1e9:.3g} GB beside other banks there; "
            f"bank_gb is {self.files.limit / 1e9:.3g}: raise it, or make room"
        )
