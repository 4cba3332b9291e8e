"""Validation predictions: each run keeps its own; those of a teacher are kept once for the runs beside each other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stillroom.engine.resume_check import contents_of
from stillroom.engine.run_folder import RunFolder
from stillroom.engine.training_job import Job
from stillroom.errors import InputError
from stillroom.files import remove_temporary_files, write_atomically, write_failure
from stillroom.reading import UnreadableError
from stillroom.runtime.distributed import Group
from stillroom.tasks.logits_file import Predictions as Predictions
from stillroom.tasks.logits_file import read_logits
from stillroom.tasks.task import Found

# What decides a teacher's logits on the validation images, beside the images themselves.
DECISIVE = ("teacher_weights", "teacher_facts", "data", "image_size", "view_size", "val_fraction", "skip_broken",
            "mean", "std", "precision", "image_shape", "val_images", "classes")  # fmt: skip


def keep_predictions(job: Job, found: Found) -> None:
    """Write the predictions of the exported weights into the run folder; every process has to call this.

    Args:
        job: the run.
        found: for this process's validation images.

    Raises:
        InputError: the file cannot be written.
    """
    whole = job.task.gathered(found, len(job.data.val), Group(job.machine))
    if not job.machine.first:
        return
    path, content = job.run.path / job.task.score.file, job.task.file_content(job.data.val, whole)
    try:
        write_atomically(path, lambda aside: aside.write_bytes(content))
    except OSError as error:
        raise write_failure(path, error, len(content)) from error


def keep_teacher_predictions(job: Job, found: Found) -> None:
    """Write the teacher's predictions beside the run, unless they are there; every process has to call this.

    Args:
        job: a run with a teacher.
        found: as for :func:`keep_predictions`.
    """
    whole = job.task.gathered(found, len(job.data.val), Group(job.machine))
    path = teacher_path(job.run)
    if job.machine.first and path is not None and not job.task.is_readable(path, job.run.config()):
        remove_temporary_files(path.parent.glob(".teacher-*"))
        content = job.task.file_content(job.data.val, whole)
        with suppress(OSError):  # without the file a report lacks some numbers; no reason to end a run
            write_atomically(path, lambda aside: aside.write_bytes(content))


def predictions_of(run: RunFolder) -> Predictions:
    """The predictions of a finished run's exported weights.

    Raises:
        InputError: the run is not finished, or its predictions are missing, damaged or of other images.
    """
    run.summary()
    with readable(run.predictions):
        return read_logits(run.predictions, run.config())


@contextmanager
def readable(predictions: Path) -> Iterator[None]:
    """Turn the errors of a block that reads a run's file of predictions into one that says what to do.

    Args:
        predictions: the file.

    Raises:
        InputError: the file is missing, damaged, of other images or may not be read.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(
            f"{predictions} is missing; run the run's command again, which adds it from the run's last checkpoint"
        ) from error
    except OSError as error:
        raise InputError(f"{predictions} cannot be read ({error.strerror}); make it readable") from error
    except UnreadableError as error:
        raise InputError(f"{error}; remove it and run the run's command again, which writes it anew") from error


def teacher_predictions_of(run: RunFolder) -> Predictions | None:
    """The predictions of a run's teacher on the images as the run saw them.

    Returns:
        None for a run without a teacher, and where the file is missing or of no use: :func:`teacher_trouble` says why.
    """
    path = teacher_path(run)
    found = None if path is None else _read_teacher(run, path)
    return found if found is not None and bool(found.logits.isfinite().all()) else None


def teacher_trouble(run: RunFolder) -> str:
    """Why a run has no predictions of its teacher; empty where it has them, or has no teacher."""
    path = teacher_path(run)
    if path is None or teacher_predictions_of(run) is not None:
        return ""
    if _read_teacher(run, path) is not None:
        return "its logits on the validation images are not finite"
    return f"its predictions, {path.name}, are not beside the run {run.path.name}; bring this file back"


def teacher_path(run: RunFolder) -> Path | None:
    """The file of a teacher's predictions, whose name follows from what decides them."""
    config = run.config()
    if not config.get("teacher_weights") or config.get("teacher_output") == "embedding":
        return None
    facts = {name: config.get(name) for name in DECISIVE}
    if recorded := contents_of(config):
        facts |= {"data": recorded}  # wherever it lies
        facts |= {name: config["identity"].get(name) for name in ("teacher", "probe")}  # its code, and what it computes
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return run.path.parent / f"teacher-{digest}.safetensors"


def _read_teacher(run: RunFolder, path: Path) -> Predictions | None:
    with suppress(OSError, UnreadableError):
        return read_logits(path, run.config())
    return None
