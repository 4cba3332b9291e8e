"""Banked teacher: predictions are read from a bank where they are stored, else computed and stored."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from stillroom.batch import Batch, Output
from stillroom.config import RunOptions
from stillroom.data import BatchLoader
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import Group
from stillroom.runtime.reporters import Reporter
from stillroom.teachers.bank import TeacherBank, View, positions_of
from stillroom.teachers.bank_key import BankKey
from stillroom.teachers.bank_rows import round_rows
from stillroom.teachers.teacher import Teacher


class BankedTeacher:
    """A teacher whose logits are stored in a bank.

    Args:
        inner: predicts the logits that are not stored.
        bank: stores them.
        machine: device and rank of this process.
        together: whether all processes must ask ``inner`` together, because its parameters are sharded.
    """

    def __init__(self, inner: Teacher, bank: TeacherBank, machine: Machine, *, together: bool = False) -> None:
        self.inner, self.bank, self.machine, self.together = inner, bank, machine, together
        self.classes, self.class_count = inner.classes, inner.class_count
        self.offers, self.input_format, self.identity = inner.offers, inner.input_format, inner.identity
        self.bank_seconds = 0.0
        self._group = Group(machine)

    def predict(self, batch: Batch) -> Output:
        """See :meth:`stillroom.teachers.teacher.Teacher.predict`."""
        if batch.epoch < 0:
            return self.inner.predict(batch)
        bank = self.bank
        views = {"val": "logits"} if batch.epoch == 0 else {view: view for view in bank.training_views}
        if batch.stand_in:  # it has no position in the bank, and its logits have no weight
            zeros = batch.images.new_zeros(len(batch.labels), bank.key.classes)
            found: dict[str, Tensor] | None = dict.fromkeys(views, zeros)
        else:
            found = bank.read_all(views, batch.epoch, batch.start, len(batch.labels))
        if self._everywhere(found is not None) and found is not None:
            found = {view: logits.to(batch.images.device) for view, logits in found.items()}
        else:
            begin = self.machine.clock()
            output = self.inner.predict(batch)
            computed = {"logits": output.logits, **output.parts}
            # Rounded as the bank returns them, so that a run that fills the bank and a run that reads it are identical.
            found = {view: round_rows(computed[name], bank.key.bits) for view, name in views.items()}
            for view, name in () if batch.stand_in else views.items():
                bank.write(view, batch.epoch, batch.start, computed[name])
            if batch.epoch:
                self.bank_seconds += self.machine.clock() - begin
        named = {name: found[view] for view, name in views.items()}
        return Output(named.pop("logits"), named)

    def close(self) -> None:
        """Close the inner teacher."""
        self.inner.close()

    def _everywhere(self, here: bool) -> bool:
        """Whether ``here`` is true in every process, if they must predict together; else in this process."""
        return self._group.all(here) if self.together else here


def open_bank(
    key: BankKey, options: RunOptions, machine: Machine, loaders: tuple[BatchLoader, BatchLoader], reporter: Reporter
) -> TeacherBank:
    """Open the bank of a key.

    Args:
        key: of the teacher's logits.
        options: the bank's folder, its size limit and the number of epochs.
        machine: device and rank of this process.
        loaders: of the training and the validation images.
        reporter: shows the bank's warnings.
    """
    assert options.bank is not None
    train, val = loaders
    training = ("logits", "logits_strong") if train.strong else ("logits",)
    epochs = min(options.epochs, train.repeat_views or options.epochs)
    views = dict.fromkeys(training, View(positions_of(train), epochs)) | {"val": View(positions_of(val), 1)}
    return TeacherBank(
        Path(options.bank),
        key,
        views=views,
        limit_bytes=int(options.bank_gb * 1e9),
        say=reporter.say,
        rank=machine.rank,
        world_size=machine.world_size,
    )
