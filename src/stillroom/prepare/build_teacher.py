"""Build a run's teacher from its settings: a network, a file, a server, or several, for the classes of the data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from stillroom.config import Recipe, RemoteOptions, TeacherOptions
from stillroom.data import DataSet
from stillroom.errors import InputError
from stillroom.input_format import InputFormat
from stillroom.prepare.network_teacher import network_teacher
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.run_identity import TorchIdentity
from stillroom.prepare.teacher_entries import teacher_entries
from stillroom.teachers.class_map import make_class_map
from stillroom.teachers.class_mapped import ClassMapped
from stillroom.teachers.class_names import read_class_names
from stillroom.teachers.logit_fingerprint import probe
from stillroom.teachers.onnx_teacher import OnnxTeacher
from stillroom.teachers.prepared_teacher import Member, PreparedTeacher, combined
from stillroom.teachers.remote_teacher import RemoteTeacher
from stillroom.teachers.teacher import Teacher
from stillroom.teachers.teacher_entry import TeacherEntry
from stillroom.teachers.teacher_kind import teacher_kind

BANK = "bank"  # the folder beside the runs in which the predictions of a server are kept without bank=


@dataclass(frozen=True)
class Surroundings:
    """What teachers are built for.

    Attributes:
        data: the images, with the student's normalisation.
        inputs: objects used instead of names, and which names are trusted.
        remote: how a server is asked.
        bank: the folder for the predictions of a server.
        bank_bytes: largest size of that folder.
        output_names: outputs of a file or a server to use.
        device: of the run.
        say: called with each message for the user.
    """

    data: DataSet
    inputs: Inputs
    remote: RemoteOptions
    bank: Path
    bank_bytes: int
    output_names: tuple[str, ...]
    device: torch.device
    say: Callable[[str], None]


def build_teacher(
    recipe: Recipe,
    inputs: Inputs,
    data: DataSet,
    *,
    device: torch.device | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> PreparedTeacher:
    """Build the teacher that the settings name; networks on the CPU.

    Args:
        recipe: the settings of a distillation.
        inputs: objects used instead of names.
        data: the images, with the student's normalisation.
        device: of the run; None for the CPU.
        say: told how the teacher's classes are mapped and how it takes images, where that is not as for the student.

    Raises:
        InputError: naming the setting that cannot work.
    """
    run, options = recipe.run, recipe.teacher or TeacherOptions()
    names = (options.teacher_output_name or "").split(",")
    around = Surroundings(
        data,
        inputs,
        recipe.remote or RemoteOptions(),
        Path(run.bank or Path(run.runs) / BANK),
        int(run.bank_gb * 1e9),
        tuple(name.strip() for name in names if name.strip()),
        device or torch.device("cpu"),
        say,
    )
    entries, combine, confidence = teacher_entries(recipe, given=inputs.teacher is not None)
    members = tuple(_member(entry, around) for entry in entries)
    only = len(members) == 1
    lines = [m.facts if only else f"{m.weight} {m.facts}" for m in members]
    how = [] if only else [f"{combine} {confidence}"]
    facts = hashlib.sha256("\n".join(lines + how).encode()).hexdigest()[:16]
    teacher = PreparedTeacher(
        members,
        combine,
        confidence,
        members[0].weights if only else facts,
        members[0].parts if only else {f"{n} {k}": v for n, m in enumerate(members) for k, v in m.parts.items()},
        members[0].probe,
        facts,
    )
    return teacher if only else teacher.with_probe(probe(combined(teacher), data))


def _member(entry: TeacherEntry, around: Surroundings) -> Member:
    """One teacher with its class map."""
    classes = None if entry.classes is None else read_class_names(entry.classes)
    data, kind = around.data, teacher_kind(entry.teacher)
    raw: Teacher
    if kind == "onnx" and around.inputs.teacher is None:
        raw = OnnxTeacher(
            entry.teacher, input_format=_given_format(entry), device=around.device, offers=entry.output,
            classes=classes, output_names=around.output_names, say=around.say,
        )  # fmt: skip
        known = _identity_of(raw)
    elif kind == "server" and around.inputs.teacher is None:
        raw = _served(entry, classes, around)
        known = _identity_of(raw)
    else:
        raw, known = network_teacher(entry, classes, around.inputs, data, around.say)
    if raw.offers == "top-k":
        around.say(f"{entry.teacher}: the probability outside its top k classes is spread evenly over the others")
    mapped, map_identity = (raw, "") if raw.offers == "embedding" else _with_class_map(raw, entry, around)
    facts = f"{known.weights} {raw.offers} {raw.input_format!r} {map_identity}"
    given = around.remote.teacher_identity or ""
    return Member(
        raw, mapped, f"{mapped.identity} {raw.offers} {given}".strip(), known.weights, known.parts,
        f"{facts} {given}".strip(), probe(mapped, data), entry.weight,
        opaque=() if given else known.opaque,
    )  # fmt: skip


def _identity_of(teacher: Teacher) -> TorchIdentity:
    """The fingerprints of a teacher whose own identity says all."""
    return TorchIdentity(hashlib.sha256(teacher.identity.encode()).hexdigest()[:16], {})


def _with_class_map(raw: Teacher, entry: TeacherEntry, around: Surroundings) -> tuple[Teacher, str]:
    """The teacher for the classes of the data, and the identity of its class map."""
    wanted = around.data.train.classes
    class_map = make_class_map(raw.classes, raw.class_count, wanted, entry.class_map, unmapped=entry.unmapped)
    for line in class_map.describe():
        around.say(f"{entry.teacher}: {line}")
    if class_map.is_identity:
        raw.classes = wanted  # the teacher may have other names for them
    mapped = raw if class_map.is_identity else ClassMapped(raw, class_map, wanted)
    return mapped, class_map.identity


def _given_format(entry: TeacherEntry) -> InputFormat | None:
    """The input format in the settings; None where they leave it to the file."""
    if entry.mean is None or entry.std is None:
        if entry.image_size is not None or entry.interpolation is not None:
            raise InputError("teacher_mean and teacher_std are missing: give them with teacher_image_size")
        return None
    size = None if entry.image_size is None else (entry.image_size, entry.image_size)
    return InputFormat(tuple(entry.mean), tuple(entry.std), size, entry.interpolation or "bicubic")


def _served(entry: TeacherEntry, classes: tuple[str, ...] | None, around: Surroundings) -> RemoteTeacher:
    wanted = _given_format(entry)
    if wanted is None:
        raise InputError(
            f"teacher={entry.teacher}: a server does not say how its images are normalised; give teacher_mean= and "
            "teacher_std="
        )
    return RemoteTeacher(
        entry.teacher, input_format=wanted, folder=around.bank, limit_bytes=around.bank_bytes, options=around.remote,
        device=around.device, offers=entry.output, classes=classes, output_names=around.output_names, say=around.say,
    )  # fmt: skip
