"""From a recipe to a job: every check, every model, the images and the run folder, before training begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from stillroom.config import Recipe
from stillroom.data import DataSet
from stillroom.engine.run_folder import RunFolder, open_run
from stillroom.engine.sample_hashes import samples_bytes, write_samples
from stillroom.engine.training_job import Job
from stillroom.methods import Method
from stillroom.models.student_wrapper import wrapper_record
from stillroom.prepare.auto_settings import settings_of
from stillroom.prepare.fitting import Fitted, Inputs, check_names, fit, notes
from stillroom.prepare.leak_check import set_notes
from stillroom.prepare.load_dataset import load_dataset
from stillroom.prepare.run_identity import (
    as_left,
    contents,
    decides,
    digest_of,
    identity,
    teacher_parts,
)
from stillroom.resolve import fingerprint
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import first_process_first
from stillroom.runtime.reporters import Reporter
from stillroom.teachers.bank_key import BankKey, bank_key
from stillroom.teachers.logit_fingerprint import Probe, probe


def prepare(recipe: Recipe, inputs: Inputs, reporter: Reporter, machine: Machine) -> Job:
    """Check everything and build everything, cheapest first, so that a mistake shows before any time is spent.

    Args:
        recipe: the settings.
        inputs: objects used instead of the recipe's names.
        reporter: told about images that were left out.
        machine: where this process computes.

    Raises:
        InputError: for anything that cannot work.
    """
    check_names(recipe, inputs)
    with first_process_first(machine):  # it may fill the cache
        data = inputs.data or load_dataset(recipe.data)
    fitted = fit(recipe, inputs, data)
    data, method, teacher, joint = fitted.data, fitted.method, fitted.teacher, fitted.joint
    for line in (*set_notes(data, fitted.earlier), *(f"note: {note}" for note in notes(fitted, recipe))):
        reporter.say(line)
    found = inputs.contents or contents(data)
    path = Path(recipe.run.runs) / recipe.run_name
    weights = asked = key = None
    parts: dict[str, str] = {}
    if teacher is not None:
        weights, asked, parts = fingerprint(teacher), probe(teacher, data), teacher_parts(teacher)
        key = _bank_key(recipe, machine, fitted, found, (f"{weights}-{digest_of(parts)}", asked), reporter)
        if not decides(inputs.teacher, recipe.flat()["teacher"], teacher):
            parts = {}
    begun = fitted.student_parts
    if inputs.student is not None:
        begun = as_left(begun, inputs.student, RunFolder(path))
    same = identity(found, begun, parts, fitted.method_parts, asked)
    settings, given = settings_of(recipe, data, joint.student, machine), _inputs(data, joint.student, weights, key)
    given |= {"device": machine.device.type, "identity": same}
    with first_process_first(machine):
        need = _disk_need(joint.student, method, recipe) + samples_bytes(data)
        run = open_run(path, settings, given, need, first=machine.first)
    if machine.first and not run.finished:
        write_samples(run, data, fitted.earlier.values())
    if (there := run.config().get("device", machine.device.type)) != machine.device.type:
        reporter.say(f"note: this run was begun on {there} and goes on on {machine.device.type}; the last bits differ")
    run = replace(run, trust=inputs.trust.inside(path))
    return Job(joint.student, teacher, method, data, recipe, run, machine, joint.student_view, joint.teacher_view, key)


def _bank_key(
    recipe: Recipe,
    machine: Machine,
    fitted: Fitted,
    found: Mapping[str, str],
    teacher: tuple[str, Probe],
    reporter: Reporter,
) -> BankKey | None:
    """The name of the teacher's stored logits; None where none are stored."""
    if recipe.run.bank is None:
        return None
    if not fitted.method.bankable:
        reporter.say(f"note: bank= is not used: {fitted.method.text} reads more of the teacher than its logits")
        return None
    images = "-".join(found[f"{side} images"] for side in ("training", "validation"))
    return bank_key(
        fitted.data, teacher=teacher[0], probe=teacher[1], images=images, seed=recipe.run.seed,
        precision=machine.precision,
    )  # fmt: skip


def _inputs(data: DataSet, student: nn.Module, weights: str | None, key: BankKey | None) -> dict[str, Any]:
    """What the run depends on beyond its settings."""
    images = data.train.images
    return {
        "teacher_bank": None if key is None else key.digest,
        "image_shape": list(images.shape[1:]),
        "train_images": len(data.train),
        "val_images": len(data.val),
        "classes": list(data.train.classes),
        "teacher_weights": weights,
    } | wrapper_record(student)


def _disk_need(student: nn.Module, method: Method, recipe: Recipe) -> int:
    """Bytes for two states (the old one stays until the new one is whole), the best and the final weights."""
    weights, connectors = (_bytes(module) for module in (student, method))
    moments = 2 if recipe.optim.optimizer == "adamw" else 1
    return int(2 * (weights + connectors) * (1 + moments) + 2 * weights + 1_000_000)


def _bytes(module: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in module.state_dict().values())
