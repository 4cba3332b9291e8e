"""Torch teachers: a frozen network whose predictions are computed, or read from its bank."""

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
    """A frozen teacher that predicts, or reads what it predicted before.

    Args:
        model: the teacher, in evaluation mode and on its device.
        reader: reads its features; None for logits only.
        bank: where its logits are stored; None to compute them every time.
        machine: where this process computes.
        sharded: whether the processes compute its predictions together.

    Attributes:
        bank_seconds: seconds in which predictions on training images were computed for the bank. They are the bank's
            cost, not the student's: later runs read them.
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
            start: place of the batch's first image among this process's images of the epoch.
        """
        bank = self.bank
        if bank is None:
            return self._compute(batch)
        if batch.stand_in:  # it has no position in the bank, and its logits do not count
            nothing = batch.images.new_zeros(len(batch.labels), bank.key.classes)
            found: dict[str, Tensor] | None = dict.fromkeys(bank.training_views, nothing)
        else:
            found = bank.read_all(bank.training_views, epoch, start, len(batch.labels))
        if self._everywhere(found is not None) and found is not None:
            found = {view: logits.to(batch.images.device) for view, logits in found.items()}
        else:
            begin = self.machine.clock()
            output = self._compute(batch)
            computed = {"logits": output.logits, **output.parts}
            # Rounded as they will be read, so that the run that fills the bank and those that read it are the same.
            found = {view: bank.rounded(computed[view]) for view in bank.training_views}
            for view, logits in {} if batch.stand_in else found.items():
                bank.write(view, epoch, start, logits)
            self.bank_seconds += self.machine.clock() - begin
        return Output(found.pop("logits"), found)

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
        """Whether something holds in every process; asked only where they compute the predictions together."""
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
    """Move a teacher to its device, in evaluation mode, and make it ready to predict.

    Args:
        teacher: the model; it moves.
        reader: read its features; None for logits only.
        bank: where its logits are stored; None to compute them every time.
        machine: where this process computes.
        val: loader of the validation images.
        layout: memory format of the images.
        sharded: whether its parameters are spread over all processes.
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
    """The stored logits that a key names; None where nothing is stored.

    Args:
        key: of the teacher's logits, or None.
        options: name the bank's folder and limit.
        machine: where this process computes.
        loaders: for training and for validation.
        reporter: told when something is wrong with the bank.
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
    """Hooks for what a method reads out of a model; None for nothing."""
    return None if model is None or view is None else PartsReader(model, view, method.parts_of(side))
