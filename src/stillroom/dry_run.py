"""The dry run of ``train`` and ``distill``: everything is checked and built, a few steps are timed, nothing is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from stillroom.config import DistillModels, Recipe
from stillroom.engine.finish import model_costs
from stillroom.engine.resume_check import refuse_other
from stillroom.engine.run_banner import images_in_words
from stillroom.engine.run_folder import RunFolder, is_ours_to_begin, require_room
from stillroom.errors import InputError
from stillroom.formatting import counted, duration, size_in_words
from stillroom.prepare.prepare import ReadyRun, build_run
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.teacher_entries import teacher_entries
from stillroom.report.run_settings import AUTOMATIC, changed_settings, value_text
from stillroom.resolve_model import is_run
from stillroom.runtime.device import make_machine
from stillroom.runtime.reporters import Reporter
from stillroom.teachers.bank_rows import row_bytes
from stillroom.teachers.teacher_kind import teacher_kind
from stillroom.trial_steps import TrialCosts, take_trial_steps
from stillroom.trust import Trust

Line = tuple[str, str]


def dry_run(recipe: Recipe, reporter: Reporter, trust: Trust) -> list[Line]:
    """Check a run and time a few of its steps. Nothing of it is kept; the cache of a data set is filled as always.

    Args:
        recipe: from :func:`stillroom.config.make_recipe`.
        reporter: told the notes that the run would begin with.
        trust: which names may be imported or fetched.

    Returns:
        What would happen: pairs of a subject and a line about it.

    Raises:
        InputError: for anything that would end the run before it is trained.
        Stopped: after Ctrl-C, SIGTERM or SIGHUP.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("a dry run has one process: start it without torchrun")
    if recipe.launch.launcher != "none":
        reporter.say(f"note: launcher={recipe.launch.launcher}: time and memory are those of one process, this one")
    served = _is_served(recipe)
    if served:  # a bank would keep the server's predictions
        recipe = replace(recipe, run=replace(recipe.run, bank=None))
    machine = make_machine(recipe.run.accelerator, recipe.run.precision)
    with torch.random.fork_rng():
        ready = build_run(recipe, Inputs(trust=trust), reporter, machine)
        place, done = _place(ready)
        costs = model_costs(ready.job(RunFolder(ready.path)))
        trial = None if served else take_trial_steps(ready)
    left = ready.recipe.run.epochs - done
    return [
        *_subjects(ready, costs, trial), ("run folder", place), ("time", _time(ready, trial, left)),
        ("memory", _memory(ready, trial)), *_disk(ready),
    ]  # fmt: skip


def _is_served(recipe: Recipe) -> bool:
    """Whether a teacher is behind a server."""
    if not isinstance(recipe.models, DistillModels):
        return False
    return any(teacher_kind(entry.teacher) == "server" for entry in teacher_entries(recipe, given=False)[0])


def _place(ready: ReadyRun) -> tuple[str, int]:
    """The run folder with its state in words, and the number of its finished epochs.

    Raises:
        InputError: it holds something else, cannot be written, or the disk is too full.
    """
    path, run = ready.path, RunFolder(ready.path)
    if is_run(path):
        refuse_other(path, run.config(), ready.settings | ready.record, first=True)
        done = len(run.epochs()) if (path / "metrics.jsonl").exists() else 0
        if run.finished:
            return f"{path}, finished: nothing would be trained", done
        words = f"{path}, to be continued after epoch {done}"
    elif path.exists() and not (path.is_dir() and is_ours_to_begin(path)):
        raise InputError(f"run folder {path} holds other files; nothing is overwritten, give another name=")
    else:
        words, done = f"{path}, new", 0
    if not os.access(_existing(path), os.W_OK):
        raise InputError(f"run folder {path} cannot be written (Permission denied); choose another runs= folder")
    require_room(run, ready.disk_bytes)
    return words, done


def _existing(path: Path) -> Path:
    """A folder, or the closest one above it that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _subjects(ready: ReadyRun, costs: Mapping[str, int | None], trial: TrialCosts | None) -> Iterator[Line]:
    """What would be trained, on which images, and how."""
    data, recipe, optim = ready.setup.data, ready.recipe, ready.recipe.optim
    images = images_in_words(data, ready.setup.stop_images, recipe.data.workers)
    yield "data", f"{recipe.data.data}: {images}"
    if isinstance(recipe.models, DistillModels):
        yield "teacher", recipe.models.teacher + _size(costs, "teacher_")
        yield "student", recipe.models.student + _size(costs)
        yield "method", ready.setup.method.text
    else:
        yield "model", recipe.models.model + _size(costs)
    length = counted(recipe.run.epochs, "epoch") + (f" of {counted(trial.steps, 'step')}" if trial else "")
    how = f"{optim.optimizer}, peak learning rate {optim.lr:g}, {optim.schedule}"
    yield "training", f"{length}, batch size {recipe.run.batch_size}, {how}"
    if given := [row for row in changed_settings(ready.settings) if row.name not in AUTOMATIC]:
        yield "settings", ", ".join(f"{row.name}={value_text(row.value)}" for row in given)
    yield "machine", f"{ready.machine.device}, precision {ready.machine.precision}"


def _size(costs: Mapping[str, int | None], role: str = "") -> str:
    """The size of a model: ", 861,620 parameters, 126.8 million multiply-accumulate operations an image"."""
    parameters, macs = costs[f"{role}parameters"], costs[f"{role}macs"]
    if parameters is None:
        return ""
    work = "" if macs is None else f", {macs / 1e6:,.1f} million multiply-accumulate operations an image"
    return f", {counted(parameters, 'parameter')}{work}"


def _time(ready: ReadyRun, trial: TrialCosts | None, left: int) -> str:
    if trial is None:
        return "not measured: each step would send images to the teacher's server"
    total = left * (trial.steps * trial.step_seconds + trial.val_seconds) + (trial.teacher_seconds if left else 0)
    speed = f"{trial.step_seconds:.3g} s a step ({trial.images_per_second:,.0f} images/s)"
    stored = ", if no logits of the teacher are stored yet" if _bank_bytes(ready) else ""
    epochs = f"{counted(left, 'epoch')} in about {duration(total)}{stored}"
    return f"{epochs}: {speed}, {duration(trial.val_seconds)} a validation"


def _memory(ready: ReadyRun, trial: TrialCosts | None) -> str:
    if trial is None or trial.peak_bytes is None:
        return "not measured"
    what = "tensors on the device" if ready.machine.device.type == "cuda" else "the process"
    return f"{size_in_words(trial.peak_bytes)} at the peak of a few steps ({what})"


def _disk(ready: ReadyRun) -> Iterator[Line]:
    run, setup = ready.recipe.run, ready.setup
    predictions = size_in_words(setup.task.file_size(setup.data.val, setup.joint.student))
    free = size_in_words(shutil.disk_usage(_existing(ready.path)).free)
    most = size_in_words(ready.disk_bytes)
    yield "disk", f"at most {most} for checkpoints and weights and {predictions} for predictions; {free} are free"
    if size := _bank_bytes(ready):
        limit = size_in_words(1e9 * run.bank_gb)
        yield "bank", f"{size_in_words(size)} in {run.bank}, less what is stored already; bank_gb allows {limit}"


def _bank_bytes(ready: ReadyRun) -> int:
    """Size of the teacher's logits for the whole run; 0 where none are stored."""
    run, data = ready.recipe.run, ready.setup.data
    stored = 0 if ready.teacher is None else sum(member.bank_key is not None for member in ready.teacher.members)
    epochs = min(run.epochs, run.repeat_views or run.epochs) * (2 if ready.setup.method.needs_strong else 1)
    images = epochs * len(data.train) + len(data.val)
    return stored * images * row_bytes(len(data.train.classes), int(run.bank_bits))
