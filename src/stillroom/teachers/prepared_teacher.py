"""Prepared teacher: the teachers of a run as they are built, before they are moved to its device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from stillroom.config import RunOptions
from stillroom.data import BatchLoader
from stillroom.methods.connect import TeacherSide
from stillroom.models.model_parts import PartsReader
from stillroom.runtime.device import Machine
from stillroom.runtime.reporters import Reporter
from stillroom.teachers.bank_key import BankKey
from stillroom.teachers.banked_teacher import BankedTeacher, open_bank
from stillroom.teachers.ensemble import Ensemble
from stillroom.teachers.ensemble_file import Combine
from stillroom.teachers.logit_fingerprint import Probe
from stillroom.teachers.remote_teacher import RemoteTeacher
from stillroom.teachers.teacher import Offer, Teacher
from stillroom.teachers.torch_teacher import TorchTeacher


@dataclass(frozen=True)
class Member:
    """One teacher of a run.

    Attributes:
        raw: predicts its own classes.
        mapped: predicts the data's classes; ``raw`` itself where these are the same.
        identity: text that identifies its predictions of the data's classes, for the bank.
        weights: fingerprint of its weights, or of the file or server that has them.
        parts: fingerprints of the code and the attributes around the weights.
        facts: text that identifies its predictions wherever its weights lie, for resuming.
        probe: its logits on a few training images.
        weight: its weight among several teachers, > 0.
        bank_key: key of its stored logits; None to ask it in every step.
        opaque: what its identity does not cover, where it is and its type.
    """

    raw: Teacher
    mapped: Teacher
    identity: str
    weights: str
    parts: dict[str, str]
    facts: str
    probe: Probe
    weight: float = 1.0
    bank_key: BankKey | None = None
    opaque: tuple[str, ...] = ()

    @property
    def module(self) -> nn.Module | None:
        """The network; None where it is not in this process."""
        return self.raw.model if isinstance(self.raw, TorchTeacher) else None

    @property
    def bankable(self) -> bool:
        """Whether its logits may be stored in a bank; those of a server are stored by image, embeddings never."""
        return not isinstance(self.raw, RemoteTeacher) and self.raw.offers != "embedding"


@dataclass(frozen=True)
class PreparedTeacher:
    """What a student learns from.

    Attributes:
        members: one or more teachers.
        combine: what is averaged over several.
        confidence: whether several are weighted for each image.
        weights: fingerprint of the weights of all.
        parts: fingerprints of the code and the attributes around the weights.
        probe: the logits on a few training images.
        facts: fingerprint of all that decides the predictions.
    """

    members: tuple[Member, ...]
    combine: Combine
    confidence: bool
    weights: str
    parts: dict[str, str]
    probe: Probe
    facts: str

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The networks in this process."""
        return tuple(member.module for member in self.members if member.module is not None)

    @property
    def offers(self) -> Offer:
        """What the predictions are made from."""
        return combined(self).offers

    def with_probe(self, probe: Probe) -> PreparedTeacher:
        """The same teachers with their common logits on a few training images."""
        return replace(self, probe=probe)

    def with_bank_keys(self, keys: Sequence[BankKey | None]) -> PreparedTeacher:
        """The same teachers, each with the key of its stored logits."""
        members = (replace(member, bank_key=key) for member, key in zip(self.members, keys, strict=True))
        return replace(self, members=tuple(members))

    def place(
        self,
        machine: Machine,
        options: RunOptions,
        loaders: tuple[BatchLoader, BatchLoader],
        reporter: Reporter,
        *,
        reader: PartsReader | None,
        sharded: bool,
    ) -> Teacher:
        """Move the networks to the device and open the banks.

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
        val = loaders[1].source
        pixels = val.pixels(torch.arange(min(2, len(val)))).to(machine.device)
        ready: list[Teacher] = []
        for member in self.members:
            if isinstance(member.raw, TorchTeacher):
                member.raw.place(machine, pixels, layout=layout, reader=reader, sharded=sharded)
            teacher = member.mapped
            if member.bank_key is not None and options.bank is not None:
                bank = open_bank(member.bank_key, options, machine, loaders, reporter)
                teacher = BankedTeacher(teacher, bank, machine, together=sharded)
            ready.append(teacher)
        return combined(self, ready)

    def side(self) -> TeacherSide:
        """What a method can be connected to, on the CPU."""
        teacher, (first, *others) = combined(self), self.members
        if isinstance(first.raw, TorchTeacher) and not others:
            own_classes = first.mapped is not first.raw
            headless = teacher.offers == "embedding"
            return TeacherSide(
                first.raw.model, first.raw.input_of, teacher.predict, headless=headless, own_classes=own_classes
            )
        why = "the teacher is several teachers" if others else "the teacher is not a PyTorch network in this process"
        return TeacherSide(None, lambda batch: batch.images, teacher.predict, why=why)


def combined(teacher: PreparedTeacher, members: Sequence[Teacher] | None = None) -> Teacher:
    """One teacher for all members.

    Args:
        teacher: says how they are combined.
        members: in the place of ``teacher.members``, for example with their banks.
    """
    each = [member.mapped for member in teacher.members] if members is None else members
    if len(each) == 1:
        return each[0]
    weights = [member.weight for member in teacher.members]
    return Ensemble(each, weights, teacher.combine, confidence=teacher.confidence)
