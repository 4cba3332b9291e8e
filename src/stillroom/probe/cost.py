"""Cost: measured speed of a network, and the hours that its training took, from the records of the runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.export.latency import machine_record, time_calls
from stillroom.models.output import logits_of
from stillroom.probe.energy import joules_of
from stillroom.probe.probe_kind import Measurement
from stillroom.probe.probe_options import ProbeOptions
from stillroom.probe.subject import Subject
from stillroom.report.discovery import FoundRun, tunings_of
from stillroom.report.tuning_record import Tuning, trial_folder
from stillroom.report.usable_runs import is_finite
from stillroom.resolve_model import is_run
from stillroom.restore import teacher_run_of

BATCHES = (1, 64)  # for latency, and for images per second
ENERGY_SECONDS = 3.0


class Cost:
    """The probe ``cost``."""

    version = 2
    students_only = False

    def check(self, options: ProbeOptions) -> None:
        """Every setting is possible."""

    def measurements(self, subject: Subject) -> Iterable[Measurement]:
        """One, on the device of this call."""
        yield Measurement(subject.machine.device.type, lambda: cost_of(subject))


def cost_of(subject: Subject) -> dict[str, Any]:
    """The cost of a network.

    Returns:
        ``latency_ms`` of one image and ``images_per_second`` in batches of 64, medians; ``joules_per_1000_images`` in
        such batches, None where the machine does not tell (:mod:`stillroom.probe.energy`); ``parameters``, ``macs`` of
        one image and ``peak_memory`` of its training in bytes, where they were recorded; ``hours``: those of
        :func:`hours_of`; and the ``machine`` of the measurement.
    """
    summary, role = subject.run.summary(), "teacher_" if subject.role == "teacher" else ""
    trained = subject.run if subject.role == "student" else teacher_run_of(subject.run)
    memory = None
    with suppress(InputError):
        memory = None if trained is None else trained.summary().get("peak_memory_bytes")
    return {
        **measured_speed(subject),
        "parameters": summary.get(f"{role}parameters"),
        "macs": summary.get(f"{role}macs"),
        "peak_memory": memory,
        "hours": hours_of(subject),
        "machine": machine_record() | {"device": str(subject.machine.device)},
    }


def measured_speed(subject: Subject) -> dict[str, float | None]:
    """Latency of one image in milliseconds, speed and energy in large batches, on the subject's device."""
    images = next(iter(subject.batches(subject.data.val))).images
    calls = [_call(subject.model, images.repeat(-(-batch // len(images)), 1, 1, 1)[:batch]) for batch in BATCHES]
    one, many = (time_calls({("", ""): call}, batch)[0] for call, batch in zip(calls, BATCHES, strict=True))
    count = math.ceil(1000 * ENERGY_SECONDS / many.median_ms)
    joules = joules_of(lambda: [calls[1]() for _ in range(count)], subject.machine.device)
    return {
        "latency_ms": one.median_ms,
        "images_per_second": many.images_per_second,
        "joules_per_1000_images": None if joules is None else 1000 * joules / (count * BATCHES[1]),
    }


def _call(model: nn.Module, images: torch.Tensor) -> Callable[[], object]:
    def call() -> object:
        with torch.inference_mode():
            return logits_of(model(images)).cpu()  # waits for the device

    return call


def hours_of(subject: Subject) -> dict[str, float | str | None]:
    """The hours of each part of the work that led to a network, times cores on a CPU, times devices elsewhere.

    Returns:
        ``unit``: "core" or "GPU"; ``training`` of the network itself; and for a student ``teacher`` (with that of the
        trials, where the tuning trained one), ``bank`` and ``tuning`` (all trials of its method), each None where there
        was none, or no record of it is left. Teacher and bank are used by all students beside each other, and tuning by
        all seeds of a method: they are paid once.
    """
    teacher = teacher_run_of(subject.run)
    trained = subject.run if subject.role == "student" else teacher
    unit = "core" if subject.run.summary().get("device", "cpu") == "cpu" else "GPU"
    found: dict[str, float | str | None] = {"unit": unit, "training": None if trained is None else spent_hours(trained)}
    if subject.role == "student":
        student = FoundRun(subject.run)
        tuning = _tuning_of(student)
        found["teacher"] = None if teacher is None else _teacher_hours(teacher, tuning)
        found["bank"] = _bank_hours(subject.run)
        found["tuning"] = None if tuning is None else _trial_hours(tuning, student.method)
    return found


def spent_hours(run: RunFolder, *, bank: bool = False) -> float | None:
    """Core- or GPU-hours of a finished run's training steps, or of its bank; None where they were not recorded."""
    try:
        summary, environment = run.summary(), run.environment()
    except InputError:
        return None
    filling = summary.get("bank_seconds", 0.0)
    seconds = filling if bank else summary["seconds"] - filling
    each = environment.get("threads", 1) if summary.get("device", "cpu") == "cpu" else 1
    hours = seconds * each * summary.get("processes", 1) / 3600
    return float(hours) if is_finite(hours) else None


def _bank_hours(run: RunFolder) -> float | None:
    """Of the bank that a run read: whichever run beside it filled it."""
    config = run.config()
    if config.get("teacher_bank") is None:
        return None
    total = 0.0
    for other in _runs_in(run.path.parent):
        with suppress(InputError):
            if other.config().get("teacher_weights") == config.get("teacher_weights"):
                total += spent_hours(other, bank=True) or 0.0
    return total


def _tuning_of(found: FoundRun) -> Tuning | None:
    """The tuning of a run's method; None for a run that was not tuned, or whose tuning is not there any more."""
    tunings = tunings_of([found.run.path.parent]) if found.method in found.description.tuned else ()
    return next((tuning for tuning in tunings if found.method in tuning.winners), None)


def _teacher_hours(teacher: RunFolder, tuning: Tuning | None) -> float | None:
    """Of a teacher, and of the one that the tuning trained for its trials."""
    hours, place = spent_hours(teacher), None if tuning is None else tuning.trained_teacher
    return hours if hours is None or place is None else hours + (spent_hours(RunFolder(place)) or 0.0)


def _trial_hours(tuning: Tuning, method: str) -> float:
    """Of all trials of a method."""
    folders = [
        trial_folder(tuning.folder, method, trial.number, epochs)
        for trial in tuning.of_method(method)
        for epochs in tuning.budget.rungs
    ]
    return sum(spent_hours(RunFolder(folder)) or 0.0 for folder in folders)


def _runs_in(folder: Path) -> Iterator[RunFolder]:
    return (RunFolder(path) for path in sorted(folder.iterdir()) if is_run(path))
