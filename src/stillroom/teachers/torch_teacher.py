"""Torch teacher: a frozen network whose predictions are computed or read from its bank."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from stillroom.batch import Batch, Output
from stillroom.config import RunOptions
from stillroom.data import MemoryLoader
from stillroom.methods import Method
from stillroom.models.fusion import fused_copy
from stillroom.models.model_parts import ModelParts, PartsReader
from stillroom.models.predict import predict, predict_batch
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import Group, shard
from stillroom.runtime.reporters import Reporter
from stillroom.teachers.bank import TeacherBank, View, positions_of
from stillroom.teachers.bank_key import BankKey


class TorchTeacher:
    """A frozen teacher that computes its predictions, or reads them from its bank.

    Args:
        model: the teacher, in evaluation mode and on its device.
        reader: reads its features; None for logits only.
        bank: stores its logits; None to compute them every time.
        machine: device and rank of this process.
        sharded: whether its parameters are sharded over the processes, which then must run each pass together.

    Attributes:
        bank_seconds: seconds spent on computing training predictions for the bank. They count as the bank's cost, not
            the student's, because later runs read them.
    """

    def __init__(
        self, model: nn.Module, reader: PartsReader | None, bank: TeacherBank | None, machine: Machine, *, sharded: bool
    ) -> None:
        self.model, self.reader, self.bank, self.machine, self.sharded = model, reader, bank, machine, sharded
        self.group = Group(machine)
        self.bank_seconds = 0.0

    def predict(self, batch: Batch, epoch: int, start: int) -> Output:
        """The teacher's output for a training batch.

        Args:
            batch: this process's part of it.
            epoch: counted from 1.
            start: position of the batch's first image among this process's images of the epoch.
        """
        bank = self.bank
        if bank is None:
            return self._compute(batch)
        if batch.stand_in:  # it has no position in the bank, and its logits have no weight
            zeros = batch.images.new_zeros(len(batch.labels), bank.key.classes)
            predictions: dict[str, Tensor] | None = dict.fromkeys(bank.training_views, zeros)
        else:
            predictions = bank.read_all(bank.training_views, epoch, start, len(batch.labels))
        if self._everywhere(predictions is not None) and predictions is not None:
            predictions = {view: logits.to(batch.images.device) for view, logits in predictions.items()}
        else:
            begin = self.machine.clock()
            output = self._compute(batch)
            computed = {"logits": output.logits, **output.parts}
            # Rounded as the bank returns them, so that a run that fills the bank and a run that reads it are identical.
            predictions = {view: bank.rounded(computed[view]) for view in bank.training_views}
            for view, logits in {} if batch.stand_in else predictions.items():
                bank.write(view, epoch, start, logits)
            self.bank_seconds += self.machine.clock() - begin
        return Output(predictions.pop("logits"), predictions)

    def predict_all(self, val: MemoryLoader) -> tuple[Tensor, Tensor]:
        """Logits and labels of this process's validation images."""
        labels = val.images.labels[self.machine.rank :: self.machine.world_size].to(self.machine.device)
        stored = None if self.bank is None else self.bank.read("val", 0, 0, len(labels))
        if self._everywhere(stored is not None) and stored is not None:
            return stored.to(self.machine.device), labels
        logits, labels = predict(self.model, val.epoch(0), self.machine.autocast())
        if self.bank is not None:
            logits = self.bank.rounded(logits)
            self.bank.write("val", 0, 0, logits)
        return logits, labels

    def close(self) -> None:
        """Remove the reader from the teacher."""
        if self.reader is not None:
            self.reader.close()

    def _compute(self, batch: Batch) -> Output:
        with torch.no_grad(), self.machine.autocast():
            return predict_batch(self.model, self.reader, batch)

    def _everywhere(self, here: bool) -> bool:
        """Whether ``here`` is true in every process of a sharded teacher; else in this process."""
        return self.group.all(here) if self.sharded else here


def place_teacher(
    teacher: nn.Module,
    reader: PartsReader | None,
    bank: TeacherBank | None,
    machine: Machine,
    val: MemoryLoader,
    *,
    layout: torch.memory_format,
    sharded: bool,
) -> TorchTeacher:
    """Move a teacher to its device in evaluation mode, and prepare it for predictions.

    Args:
        teacher: the model; it is moved in place.
        reader: reads its features; None for logits only.
        bank: stores its logits; None to compute them every time.
        machine: device and rank of this process.
        val: loader of the validation images.
        layout: memory format of the images.
        sharded: whether to shard its parameters over all processes.
    """
    teacher.eval()
    if sharded:
        shard(teacher, machine)
    else:
        teacher.to(device=machine.device).to(memory_format=layout)
    if reader is None and not sharded and machine.device.type == "cpu":
        teacher = fused_copy(teacher, next(val.epoch(0)).images[:2])
    return TorchTeacher(teacher, reader, bank, machine, sharded=sharded)


def open_bank(
    key: BankKey | None,
    options: RunOptions,
    machine: Machine,
    loaders: tuple[MemoryLoader, MemoryLoader],
    reporter: Reporter,
) -> TeacherBank | None:
    """Open the bank of a key; None without a key or without the setting ``bank``.

    Args:
        key: of the teacher's logits, or None.
        options: the bank's folder, its size limit and the number of epochs.
        machine: device and rank of this process.
        loaders: of the training and the validation images.
        reporter: shows the bank's warnings.
    """
    if key is None or options.bank is None:
        return None
    train, val = loaders
    training = ("logits", "logits_strong") if train.strong else ("logits",)
    views = dict.fromkeys(training, View(positions_of(train), options.epochs)) | {"val": View(positions_of(val), 1)}
    return TeacherBank(
        Path(options.bank),
        key,
        views=views,
        limit_bytes=int(options.bank_gb * 1e9),
        say=reporter.say,
        rank=machine.rank,
        world_size=machine.world_size,
    )


def parts_reader(model: nn.Module | None, view: ModelParts | None, method: Method, side: str) -> PartsReader | None:
    """The reader of the parts that a method needs from a model; None if it needs none."""
    return None if model is None or view is None else PartsReader(model, view, method.parts_of(side))
