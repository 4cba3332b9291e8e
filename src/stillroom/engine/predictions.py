"""Validation predictions: each run keeps its own; those of a teacher are kept once for the runs beside each other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillroom.data.source import UNKNOWN, Source
from stillroom.engine.resume_check import contents_of
from stillroom.engine.run_folder import RunFolder
from stillroom.engine.training_job import Job
from stillroom.errors import InputError
from stillroom.files import remove_temporary_files, write_atomically, write_failure
from stillroom.models.weight_files import read_safetensors
from stillroom.reading import UnreadableError
from stillroom.runtime.distributed import Group

FORMAT = "2"
# What decides a teacher's logits on the validation images, beside the images themselves.
DECISIVE = ("teacher_weights", "teacher_facts", "data", "image_size", "view_size", "val_fraction", "skip_broken",
            "mean", "std", "precision", "image_shape", "val_images", "classes")  # fmt: skip


@dataclass(frozen=True)
class Predictions:
    """A model's predictions on every validation image, in the data set's order.

    Attributes:
        logits: (N, C), float32, on the CPU.
        labels: (N,), int64, on the CPU; all -1 where the validation images have no labels.
        ids: (N,), int64, the sample ids, on the CPU.
    """

    logits: Tensor
    labels: Tensor
    ids: Tensor

    @property
    def correct(self) -> Tensor:
        """Whether the label has the largest logit, (N,), bool."""
        return self.logits.argmax(1) == self.labels


def keep_predictions(job: Job, logits: Tensor) -> None:
    """Write the predictions of the exported weights into the run folder; every process has to call this.

    Args:
        job: the run.
        logits: of this process's validation images, (N / processes, C).

    Raises:
        InputError: the file cannot be written.
    """
    found = _of_all_processes(job, logits)
    path = job.run.predictions
    try:
        if job.machine.first:
            _write(path, job.data.val, found)
    except OSError as error:
        raise write_failure(path, error, found.nbytes + 16 * len(found)) from error


def keep_teacher_predictions(job: Job, logits: Tensor) -> None:
    """Write the teacher's predictions beside the run, unless they are there; every process has to call this.

    Args:
        job: a run with a teacher.
        logits: as for :func:`keep_predictions`.
    """
    found = _of_all_processes(job, logits)
    path = _teacher_path(job.run)
    if job.machine.first and path is not None and _read_teacher(job.run, path) is None:
        remove_temporary_files(path.parent.glob(".teacher-*"))
        with suppress(OSError):  # without the file a report lacks some numbers; no reason to end a run
            _write(path, job.data.val, found)


def predictions_of(run: RunFolder) -> Predictions:
    """The predictions of a finished run's exported weights.

    Raises:
        InputError: the run is not finished, or its predictions are missing, damaged or of other images.
    """
    run.summary()
    try:
        return _read(run.predictions, run.config())
    except FileNotFoundError as error:
        raise InputError(
            f"{run.predictions} is missing, which earlier versions did not write; run the run's command again, which "
            "adds it from the run's last checkpoint"
        ) from error
    except OSError as error:
        raise InputError(f"{run.predictions} cannot be read ({error.strerror}); make it readable") from error
    except UnreadableError as error:
        raise InputError(f"{error}; remove it and run the run's command again, which writes it anew") from error


def teacher_predictions_of(run: RunFolder) -> Predictions | None:
    """The predictions of a run's teacher on the images as the run saw them.

    Returns:
        None for a run without a teacher, and where the file is missing or of no use: :func:`teacher_trouble` says why.
    """
    path = _teacher_path(run)
    found = None if path is None else _read_teacher(run, path)
    return found if found is not None and bool(found.logits.isfinite().all()) else None


def teacher_trouble(run: RunFolder) -> str:
    """Why a run has no predictions of its teacher; empty where it has them, or has no teacher."""
    path = _teacher_path(run)
    if path is None or teacher_predictions_of(run) is not None:
        return ""
    if _read_teacher(run, path) is not None:
        return "its logits on the validation images are not finite"
    return f"its predictions, {path.name}, are not beside the run {run.path.name}; bring this file back"


def _teacher_path(run: RunFolder) -> Path | None:
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
        return _read(path, run.config())
    return None


def _of_all_processes(job: Job, logits: Tensor) -> Tensor:
    """The logits of all validation images, in the data set's order, on the CPU."""
    return rounded(Group(job.machine).gather_set(logits, len(job.data.val)))


def rounded(logits: Tensor) -> Tensor:
    """Logits in half precision on the CPU, without a change of the predicted class; as they are where it cannot be.

    Rounding makes close logits equal. Where the largest has an equal, it is raised to the next half number.

    Args:
        logits: (N, C), float32, on any device.
    """
    predicted = logits.topk(min(5, logits.shape[1]), dim=1).indices[:, 0].cpu().numpy()  # as accuracy takes it
    half = logits.half().cpu().numpy()
    rows = np.flatnonzero((half == half.max(1, keepdims=True)).sum(1) > 1)
    half[rows, predicted[rows]] = np.nextafter(half[rows, predicted[rows]], np.float16(np.inf))
    return torch.from_numpy(half) if np.isfinite(half).all() else logits.cpu()


def _write(path: Path, images: Source, logits: Tensor) -> None:
    from safetensors.torch import save

    content = save({"logits": logits, "labels": images.labels, "ids": images.ids}, {"format": FORMAT})
    write_atomically(path, lambda aside: aside.write_bytes(content))


def _read(path: Path, config: Mapping[str, Any]) -> Predictions:
    """The predictions in a file.

    Raises:
        OSError: it is missing or closed.
        UnreadableError: it is damaged, or does not fit the run.
    """
    tensors, facts = read_safetensors(path)
    if facts.get("format") != FORMAT:
        raise UnreadableError(path, f"its format is {facts.get('format')}, not {FORMAT}")
    images, classes = config["val_images"], len(config["classes"])
    wanted = {"logits": (images, classes), "labels": (images,), "ids": (images,)}
    for name, shape in wanted.items():
        found = tensors.get(name)
        kinds = (torch.float16, torch.float32) if name == "logits" else (torch.int64,)
        if found is None or found.shape != shape or found.dtype not in kinds:
            raise UnreadableError(path, f"it has no {name} of shape {shape}")
    labels = tensors["labels"]
    if images and not 0 <= int(labels.min()) <= int(labels.max()) < classes and not bool((labels == UNKNOWN).all()):
        raise UnreadableError(path, f"its labels are not those of {classes} classes")
    return Predictions(tensors["logits"].float(), labels, tensors["ids"])
