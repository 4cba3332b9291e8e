"""Prepare a run: settings, data, models, method and run folder, in this order, before training starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from stillroom.config import Recipe
from stillroom.engine.run_folder import RunFolder, open_run
from stillroom.engine.sample_hashes import samples_bytes, write_samples
from stillroom.engine.training_job import Job
from stillroom.errors import InputError
from stillroom.methods import Method
from stillroom.models.student_wrapper import wrapper_record
from stillroom.prepare.auto_settings import resolved_settings, with_run_precision
from stillroom.prepare.load_dataset import load_in_turn, with_image_size, with_recorded_source, with_task
from stillroom.prepare.models_and_method import set_up
from stillroom.prepare.name_checks import check_names
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.run_identity import (
    data_fingerprints,
    has_own_code,
    parts_at_start,
    run_identity,
)
from stillroom.prepare.set_up_detection import set_up_detection
from stillroom.prepare.setup import Setup
from stillroom.prepare.start_notes import image_notes, training_notes
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import first_process_first
from stillroom.runtime.reporters import Reporter
from stillroom.teachers.bank_key import bank_key
from stillroom.teachers.prepared_teacher import Member, PreparedTeacher


@dataclass(frozen=True)
class ReadyRun:
    """A run that is checked and built. Nothing of it is written yet.

    Attributes:
        recipe: the settings.
        machine: with the precision of the run.
        setup: images, models and method.
        teacher: with the keys of its stored logits; None to train on labels only.
        settings: all settings, resolved, as ``config.yaml`` keeps them.
        record: what else decides the result, as ``inputs.json`` keeps it.
        disk_bytes: size of checkpoints, weights and hashes of the images, at most.
    """

    recipe: Recipe
    machine: Machine
    setup: Setup
    teacher: PreparedTeacher | None
    settings: dict[str, Any]
    record: dict[str, Any]
    disk_bytes: int

    @property
    def path(self) -> Path:
        """The run folder."""
        return _run_path(self.recipe)

    def job(self, run: RunFolder) -> Job:
        """The run with a folder to write to."""
        joint, setup = self.setup.joint, self.setup
        return Job(
            joint.student, self.teacher, setup.method, setup.data, self.recipe, run, self.machine, joint.student_view,
            joint.teacher_view, setup.head, setup.classifier_trained, setup.stop_images, setup.task,
        )  # fmt: skip


def prepare(recipe: Recipe, inputs: Inputs, reporter: Reporter, machine: Machine) -> Job:
    """Check and build everything, cheapest first, so that mistakes show before training time is spent.

    Args:
        recipe: the settings.
        inputs: objects used instead of the recipe's names.
        reporter: told the notes on the settings, the images and the models.
        machine: where this process computes.

    Raises:
        InputError: for anything that cannot work.
    """
    ready = build_run(recipe, inputs, reporter, machine)
    run = _open_run_folder(ready, inputs)
    there = run.config().get("device", machine.device.type)
    if there != machine.device.type:
        reporter.say(
            f"note: this run was started on {there} and continues on {machine.device.type}; the last bits differ"
        )
    return ready.job(run)


def build_run(recipe: Recipe, inputs: Inputs, reporter: Reporter, machine: Machine) -> ReadyRun:
    """Do what :func:`prepare` does before the run folder is opened.

    Args:
        recipe: the settings.
        inputs: objects used instead of the recipe's names.
        reporter: told the notes on the settings, the images and the models.
        machine: where this process computes.

    Raises:
        InputError: for anything that cannot work.
    """
    # Settings: nothing is read but the run folders that they name.
    recipe = with_task(recipe, inputs.data)
    if inputs.data is None:
        recipe = with_recorded_source(with_image_size(recipe, inputs.trust))
    machine = with_run_precision(recipe, machine, reporter)
    check_names(recipe, inputs)

    # Data.
    if inputs.data is None:
        recipe, data = load_in_turn(recipe, machine, inputs.trust, reporter.say)
    else:
        data = inputs.data

    # Models and method.
    if data.task == "detection":
        setup = set_up_detection(recipe, inputs, data, say=reporter.say)
    else:
        setup = set_up(recipe, inputs, data, device=machine.device, say=reporter.say)
    notes = [f"note: {note}" for note in training_notes(setup, recipe)]
    for line in (*image_notes(setup.data, setup.earlier), *notes):
        reporter.say(line)

    # What the run folder will hold.
    prints = inputs.fingerprints or data_fingerprints(data)
    teacher = _with_bank_keys(recipe, machine, setup, prints, reporter)
    record = _record(recipe, inputs, machine, setup, prints, teacher)
    student = setup.joint.student
    settings = resolved_settings(recipe, setup.data, student, machine)
    need = _disk_need(student, setup.method, recipe) + samples_bytes(setup.data)
    return ReadyRun(recipe, machine, setup, teacher, settings, record, need)


def _with_bank_keys(
    recipe: Recipe, machine: Machine, setup: Setup, prints: Mapping[str, str], reporter: Reporter
) -> PreparedTeacher | None:
    """The teacher, each of its members with the key of its stored logits where they are stored."""
    teacher = setup.teacher
    if recipe.run.bank is None or teacher is None:
        return teacher
    if not setup.task.rows_are_images:
        reporter.say("note: bank= is not used: the teacher's logits are those of what the student samples in each step")
        return teacher
    if teacher.offers == "embedding":
        reporter.say("note: bank= is not used: embeddings of a teacher are computed in every step")
        return teacher
    if not setup.method.bankable:
        reporter.say(f"note: bank= is not used: {setup.method.text} reads more of the teacher than its logits")
        return teacher
    images = "-".join(prints[f"{side} images"] for side in ("training", "validation"))
    balanced = recipe.data.sampling == "balanced"
    if balanced or recipe.run.patience is not None:  # which images an epoch shows depends on the labels
        images += f"-{'balanced' if balanced else 'held-out'}-{prints['training labels']}"
    for member in teacher.members:
        _require_identity(member)
    shared: Any = {
        "images": images, "seed": recipe.run.seed, "precision": machine.precision, "bits": int(recipe.run.bank_bits),
    }  # fmt: skip
    keys = [
        bank_key(
            setup.data, teacher=member.identity, input_format=member.mapped.input_format, probe=member.probe, **shared
        )
        if member.bankable
        else None
        for member in teacher.members
    ]
    return teacher.with_bank_keys(keys)


def _require_identity(member: Member) -> None:
    """Refuse a teacher that could be taken for another one with the same weights, where its logits are stored."""
    if member.opaque:
        raise InputError(
            f"bank=: the teacher holds {member.opaque[0]}, whose contents cannot be read, so that another teacher "
            "could be taken for it; give teacher_identity=TEXT, and another text for another teacher, or leave bank out"
        )


def _record(
    recipe: Recipe,
    inputs: Inputs,
    machine: Machine,
    setup: Setup,
    prints: Mapping[str, str],
    teacher: PreparedTeacher | None,
) -> dict[str, Any]:
    """What the run depends on beyond its settings, as ``inputs.json`` keeps it."""
    student, train = setup.student_parts, setup.data.train
    if inputs.student is not None:
        student = parts_at_start(student, inputs.student, RunFolder(_run_path(recipe)))
    parts: Mapping[str, str] = {}
    if teacher is not None and has_own_code(inputs.teacher, recipe.flat()["teacher"], *teacher.modules):
        parts = teacher.parts
    probe = None if teacher is None else teacher.probe
    keys = [] if teacher is None else [m.bank_key.digest for m in teacher.members if m.bank_key is not None]
    return {
        "teacher_bank": " ".join(keys) or None,
        "image_shape": list(setup.data.input_shape),
        "train_images": setup.train_images,
        "val_images": len(setup.data.val),
        "classes": list(train.classes),
        "teacher_weights": None if teacher is None else teacher.weights,
        "teacher_facts": None if teacher is None else teacher.facts,
        "device": machine.device.type,
        "identity": run_identity(prints, student, parts, setup.method_parts, probe),
    } | wrapper_record(setup.joint.student)


def _open_run_folder(ready: ReadyRun, inputs: Inputs) -> RunFolder:
    """Make the run's folder, or continue the run that is there, and record the images that it trains on."""
    machine, setup = ready.machine, ready.setup
    with first_process_first(machine):
        run = open_run(ready.path, ready.settings, ready.record, ready.disk_bytes, first=machine.first)
    if machine.first and not run.finished:
        write_samples(run, setup.data, setup.earlier.values(), setup.stop_images)
    return replace(run, trust=inputs.trust.inside(ready.path))


def _run_path(recipe: Recipe) -> Path:
    return Path(recipe.run.runs) / recipe.run_name


def _disk_need(student: nn.Module, method: Method, recipe: Recipe) -> int:
    """Bytes for two states (the old one stays until the new one is whole), the best and the final weights."""
    weights, connectors = (_bytes(module) for module in (student, method))
    moments = {"sgd": 1, "dot": 2, "adamw": 2}.get(recipe.optim.optimizer, 3)
    averaged = weights if recipe.optim.ema is not None else 0
    return int(2 * ((weights + connectors) * (1 + moments) + averaged) + 2 * weights + 1_000_000)


def _bytes(module: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in module.state_dict().values())
