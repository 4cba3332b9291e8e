"""Teacher bank: a cache of a teacher's logits on disk. The first run computes them, later runs read them.

Order and augmentation are functions of (seed, epoch, sample id), so the logits at a position of an epoch's order
depend only on the fields of :class:`BankKey`. They are stored in blocks of positions, independent of the batch size.
What one number of processes has stored, any other number reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from stillroom.data import BatchLoader
from stillroom.teachers.bank_files import BlockFiles, BlockPlace
from stillroom.teachers.bank_key import BLOCK, BankKey
from stillroom.teachers.bank_rows import join_rows, pack_rows, row_bytes, unpack_rows
from stillroom.teachers.bank_stripes import collect

BLOCK_BYTES = 64 * 2**20  # with many classes a block has fewer rows


def positions_of(loader: BatchLoader) -> int:
    """Number of images of this process in an epoch of a loader."""
    seen = min(len(loader) * loader.batch_size, len(loader.source))
    return len(range(loader.rank, seen, loader.world_size))


@dataclass(frozen=True)
class View:
    """One kind of logits in the bank.

    Attributes:
        positions: images of this process in an epoch, >= 1.
        epochs: different epochs in the whole run, >= 1; used only for sizes in messages.
    """

    positions: int
    epochs: int


@dataclass
class _Pending:
    """The first rows of an incomplete block.

    Attributes:
        place: epoch and index of the block.
        stored: packed rows that were stored before, by a run whose epoch was shorter.
        chunks: the rows after them, float32 (n, C).
    """

    place: tuple[int, int]
    stored: list[Tensor] = field(default_factory=list)
    chunks: list[Tensor] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(map(len, (*self.stored, *self.chunks)))


class TeacherBank:
    """Logits of one teacher, read and written in the order of the training images in an epoch.

    Position ``i`` of this process is position ``i * world_size + rank`` of the epoch's order, as in ``Loader``. Every
    process writes its own files, without communication. It reads them, or puts a block together from the files of
    another number of processes.

    A stored value differs from the teacher's by at most 2^-11 of its size with 16 bits (2^-25 for values below 2^-14),
    and by at most (max - min) / 510 of its image's logits with 8 bits, beside float32 rounding. An image whose logits
    cannot be rounded in this way, because one of them is not finite or too large, keeps them exactly.

    A block has at most 64 MiB, in float32. Memory holds at most three blocks per view, two that were read and one that
    is being filled, and two more while one is put together or written.

    Args:
        folder: the folder of all banks; this bank is ``folder/<digest of its key>``.
        key: what determines the logits.
        views: kinds of logits by name, such as "logits", "logits_strong" and "val".
        limit_bytes: largest total size of ``folder``, all banks included.
        say: called with each message for the user.
        rank: this process, in [0, world_size).
        world_size: number of processes.

    Raises:
        InputError: the folder cannot be written, or it belongs to another key.
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
        self.key, self.views, self.say = key, views, say
        self.rank, self.world_size = rank, world_size
        self.rows = max(1, min(BLOCK, BLOCK_BYTES // (4 * key.classes)))
        self.files = BlockFiles(folder, key, rows=self.rows, limit=limit_bytes, say=say)
        self.storing = True
        self._known: dict[str, dict[tuple[int, int], Tensor | None]] = {view: {} for view in views}
        self._others: dict[str, tuple[int, list[int]]] = {}
        self._pending: dict[str, _Pending] = {}

    @property
    def needed_bytes(self) -> int:
        """Size of all logits of the whole run, over all processes."""
        rows = sum(view.positions * view.epochs for view in self.views.values())
        return rows * row_bytes(self.key.classes, self.key.bits) * self.world_size

    @property
    def training_views(self) -> tuple[str, ...]:
        """The views of the training images."""
        return tuple(view for view in self.views if view != "val")

    def read(self, view: str, epoch: int, start: int, count: int) -> Tensor | None:
        """Read the logits of this process's positions ``start`` to ``start + count`` in an epoch.

        Each block's file is looked up once per epoch, at its first read.

        Returns:
            float32 (count, C) on the CPU; None if any of them is not stored.
        """
        pieces = []
        for index, part in self._split(start, count):
            block = self._block(view, epoch, index)
            if block is None or len(block) < part.stop:
                return None
            pieces.append(unpack_rows(block[part]))
        return torch.cat(pieces)

    def read_all(self, views: Iterable[str], epoch: int, start: int, count: int) -> dict[str, Tensor] | None:
        """Read several views; None if any row of any of them is not stored."""
        found: dict[str, Tensor] = {}
        for view in views:
            logits = self.read(view, epoch, start, count)
            if logits is None:
                return None
            found[view] = logits
        return found

    def write(self, view: str, epoch: int, start: int, logits: Tensor) -> None:
        """Store logits that :meth:`read` did not find.

        Logits are copied on their device, and rounded and moved to disk when their block is complete. A block whose
        first rows were not written, as after a resume inside it, is not stored. Train on the logits as
        :func:`stillroom.teachers.bank_rows.round_rows` rounds them even if they were just computed: then a run that
        fills the bank and a run that reads it are identical.

        Args:
            view: one of ``views``.
            epoch: as in :meth:`read`.
            start: position of the first row.
            logits: (count, C), not rounded, any device.
        """
        for index, part in self._split(start, len(logits)):
            first = index * self.rows + part.start - start
            self._gather(view, (epoch, index), part.start, logits[first : first + part.stop - part.start])

    def _split(self, start: int, count: int) -> Iterator[tuple[int, slice]]:
        """The blocks of a range of positions, each with its rows."""
        end = start + count
        while start < end:
            index, offset = divmod(start, self.rows)
            stop = min(self.rows, offset + end - start)
            yield index, slice(offset, stop)
            start += stop - offset

    def _gather(self, view: str, place: tuple[int, int], offset: int, rows: Tensor) -> None:
        epoch, index = place
        size = self._size(view, index)
        stored = self._block(view, epoch, index)
        rows_stored = 0 if stored is None else len(stored)
        if not self.storing or rows_stored >= size:
            return
        pending = self._pending.get(view)
        if pending is None or pending.place != place or pending.count != offset:
            pending = self._pending[view] = _Pending(place)
            if offset > rows_stored:
                return
            if stored is not None:  # from a run that dropped the last, smaller batch of the epoch
                pending.stored.append(stored[:offset])
        pending.chunks.append(rows.detach().to(torch.float32, copy=True))
        if pending.count == size:
            del self._pending[view]
            self._store(view, pending)

    def _size(self, view: str, index: int) -> int:
        """Number of rows of a complete block of this process."""
        return min(self.rows, self.views[view].positions - index * self.rows)

    def _block(self, view: str, epoch: int, index: int) -> Tensor | None:
        """The packed rows of a block; None if they are not stored. Only the last two blocks are kept in memory."""
        known = self._known[view]
        if (epoch, index) not in known:
            while len(known) >= 2:
                del known[next(iter(known))]
            known[epoch, index] = self._find(view, epoch, index)
        return known[epoch, index]

    def _find(self, view: str, epoch: int, index: int) -> Tensor | None:
        """A block as this process stored it, else as another number of processes did: a complete or the longest one."""
        size = self._size(view, index)
        found = self.files.load(BlockPlace(view, epoch, index, self.rank, self.world_size))
        for world_size in self._other_world_sizes(view, epoch):
            if found is not None and len(found) >= size:
                break
            other = self._collected(view, epoch, index, world_size)
            if found is None or (other is not None and len(other) > len(found)):
                found = other
        return found

    def _other_world_sizes(self, view: str, epoch: int) -> list[int]:
        """Other numbers of processes that have stored rows of an epoch, looked up once an epoch."""
        known_epoch, sizes = self._others.get(view, (-1, []))
        if known_epoch != epoch:
            sizes = [size for size in self.files.world_sizes(view, epoch) if size != self.world_size]
            self._others[view] = epoch, sizes
        return sizes

    def _collected(self, view: str, epoch: int, index: int, world_size: int) -> Tensor | None:
        """A block of this process from the files of another number of processes."""
        first = index * self.rows
        own = torch.arange(first, first + self._size(view, index))

        def load(rank: int, block: int, rows: slice) -> Tensor | None:
            return self.files.load(BlockPlace(view, epoch, block, rank, world_size), rows)

        return collect(self.rank + self.world_size * own, world_size, self.rows, load)

    def _store(self, view: str, pending: _Pending) -> None:
        place = pending.place
        packed = pack_rows(torch.cat(pending.chunks), self.key.bits).cpu()
        try:
            self.files.store(BlockPlace(view, *place, self.rank, self.world_size), join_rows([*pending.stored, packed]))
        except OSError as error:
            self._stop(error.strerror or str(error))
        self._known[view].pop(place, None)

    def _stop(self, reason: str) -> None:
        self.storing = False
        self._pending.clear()
        self.say(
            f"warning: teacher bank {self.files.folder}: {reason}. This run stores no more logits and continues "
            f"with the stored ones. The whole run needs {self.needed_bytes / 1e9:.3g} GB in addition to other banks; "
            f"bank_gb is {self.files.limit / 1e9:.3g}: raise it, or free disk space"
        )
