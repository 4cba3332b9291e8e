"""Prepared teacher: the teachers of a run as they are built, before they are moved to its device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stillroom.batch import Batch
from stillroom.config import RunOptions
from stillroom.data import MemoryLoader
from stillroom.methods.connect import TeacherSide
from stillroom.models.model_parts import PartsReader
from stillroom.runtime.device import Machine
from stillroom.runtime.reporters import Reporter
from stillroom.teachers.bank_key import BankKey
from stillroom.teachers.banked_teacher import BankedTeacher, open_bank
from stillroom.teachers.logit_fingerprint import Probe
from stillroom.teachers.teacher import Teacher
from stillroom.teachers.torch_teacher import TorchTeacher


@dataclass(frozen=True)
class Member:
    """One teacher of a run.

    Attributes:
        teacher: predicts its own classes.
        identity: text that identifies its predictions of the data's classes.
        probe: its logits on a few training images.
        bank_key: key of its stored logits; None to ask it in every step.
    """

    teacher: Teacher
    identity: str
    probe: Probe
    bank_key: BankKey | None = None


@dataclass(frozen=True)
class PreparedTeacher:
    """What a student learns from.

    Attributes:
        members: one or more teachers.
        weights: fingerprint of the weights, or of the file or server they are in.
        parts: fingerprints of the code and the attributes around the weights.
        probe: the logits on a few training images.
    """

    members: tuple[Member, ...]
    weights: str
    parts: dict[str, str]
    probe: Probe

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The networks in this process."""
        return tuple(m.teacher.model for m in self.members if isinstance(m.teacher, TorchTeacher))

    def place(
        self,
        machine: Machine,
        options: RunOptions,
        loaders: tuple[MemoryLoader, MemoryLoader],
        reporter: Reporter,
        *,
        reader: PartsReader | None,
        sharded: bool,
    ) -> Teacher:
        """Move the teachers to the device and open their banks.

        Args:
            machine: device, precision and rank of this process.
            options: the bank's settings and the memory format.
            loaders: of the training and the validation images.
            reporter: shows warnings of the banks.
            reader: reads the parts of the only teacher; None for logits only.
            sharded: whether to shard parameters over all processes.

        Returns:
            One teacher.
        """
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        for member in self.members:
            if isinstance(member.teacher, TorchTeacher):
                pixels = next(loaders[1].epoch(0)).pixels
                assert pixels is not None
                member.teacher.place(machine, pixels[:2], layout=layout, reader=reader, sharded=sharded)
        ready: list[Teacher] = []
        for member in self.members:
            teacher = member.teacher
            if member.bank_key is not None and options.bank is not None:
                bank = open_bank(member.bank_key, options, machine, loaders, reporter)
                teacher = BankedTeacher(teacher, bank, machine, together=sharded)
            ready.append(teacher)
        return ready[0]


def teacher_side(teacher: PreparedTeacher) -> TeacherSide:
    """What a method can be connected to, on the CPU."""
    inner = teacher.members[0].teacher
    if isinstance(inner, TorchTeacher) and len(teacher.members) == 1:
        return TeacherSide(inner.model, inner.input_of, inner.predict)
    return TeacherSide(None, lambda batch: batch.images, inner.predict, "the teacher is several teachers")


@torch.no_grad()
def predict_all(teacher: Teacher, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """A teacher's logits (N, C) and the labels (N,) of batches, without those of stand-ins."""
    logits, labels = [], []
    for batch in batches:
        found = teacher.predict(batch).logits  # for stand-ins too: a sharded pass needs all processes
        if not batch.stand_in:
            logits.append(found)
            labels.append(batch.labels)
    return torch.cat(logits), torch.cat(labels)
