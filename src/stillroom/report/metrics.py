"""One finished run in numbers: accuracy, calibration, closeness to the teacher, cost."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.data import DataSet
from stillroom.engine.evaluate import agreement
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.files import write_text
from stillroom.reading import read_json
from stillroom.report.predictions import (
    Answers,
    answers,
    dataset_of,
    student_of,
    teacher_answers,
    teacher_of,
    weights_digest,
)
from stillroom.report.runs_table import read_row
from stillroom.report.usable_runs import trouble

FORMAT = 3  # to be raised when a number's meaning changes: older files are then made anew
BINS = 15


@dataclass(frozen=True)
class Measures:
    """What one run reached and what it cost.

    Attributes:
        last: validation accuracy after the last epoch, in percent.
        best: highest validation accuracy of any epoch, in percent; the epoch was chosen by these very images.
        best_epoch: the epoch it was reached in, counted from 1.
        ece: expected calibration error over 15 bins, in percent; of the exported weights, as all up to per_class.
        agreement: share of validation images on which the student names the teacher's class, in percent; None
            without a teacher.
        kl_to_teacher: mean Kullback-Leibler divergence of the student's probabilities from the teacher's at
            temperature 1, in nats; None without a teacher, or where it cannot be brought back.
        val_loss: mean cross-entropy on the validation images, in nats.
        per_class: accuracy on each class, in percent, in the order of the classes; 0 for a class without images.
        parameters: of the trained model.
        macs: multiplications with additions for one image, in convolutions, linear layers and attention.
        seconds: spent in training steps, without those in which the teacher answered for its bank.
        images_per_second: training images in each of these seconds, median over the epochs.
        peak_memory: largest memory of training in bytes; None where the run did not record it.
    """

    last: float
    best: float
    best_epoch: int
    ece: float
    agreement: float | None
    kl_to_teacher: float | None
    val_loss: float
    per_class: tuple[float, ...]
    parameters: int
    macs: int
    seconds: float
    images_per_second: float
    peak_memory: int | None


@dataclass(frozen=True)
class TeacherMeasures:
    """A pair's teacher on the pair's own validation images, which need not be those of the teacher's own run.

    Attributes:
        accuracy: in percent, of the weights that taught.
        ece: expected calibration error over 15 bins, in percent; None where the teacher cannot be brought back.
        parameters: of the teacher.
        macs: as in :class:`Measures`; None for a teacher without a run folder.
        seconds: spent in the training steps of its own run; None without one, as for the next two.
        images_per_second: training images in each of these seconds, median over the epochs.
        peak_memory: largest memory of its training in bytes.
    """

    accuracy: float
    ece: float | None
    parameters: int
    macs: int | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    peak_memory: int | None = None
    agreement: None = None
    kl_to_teacher: None = None


def measure_teacher(run: RunFolder, own: RunFolder | None) -> TeacherMeasures | None:
    """The numbers of the teacher of a finished run, on the validation images of that run.

    Args:
        run: the student's.
        own: the teacher's finished run, if it has one.

    Returns:
        None for a run without teacher.

    Raises:
        InputError: the images cannot be brought back.
    """
    summary = run.summary()
    scored = summary.get("teacher")
    if not isinstance(scored, Mapping) or not isinstance(scored.get("top1"), float | int):
        return None
    answered = teacher_answers(run)
    made: dict[str, Any] = {}
    if own is not None and not trouble(own):
        spent = own.summary()
        made = {
            "seconds": spent["seconds"] - spent.get("bank_seconds", 0.0),
            "images_per_second": statistics.median(map(_speed, own.epochs())),
            "peak_memory": spent.get("peak_memory_bytes"),
        }
    return TeacherMeasures(
        accuracy=scored["top1"],
        ece=None if answered is None else _calibration_error(answered),
        parameters=summary["teacher_parameters"],
        macs=None if own is None or answered is None else _teacher_macs(run),
        **made,
    )


def _teacher_macs(run: RunFolder) -> int | None:
    try:
        data = dataset_of(run)
        teacher = teacher_of(run, data)
    except InputError:
        return None
    return None if teacher is None else count_macs(teacher, data)


def measure(run: RunFolder) -> Measures:
    """The numbers of a finished run, computed once and kept in its folder as ``measures.json``.

    Raises:
        InputError: the run is not finished, or its model or images cannot be brought back.
    """
    path, digest = run.path / "measures.json", weights_digest(run)
    found = _read(path, digest)
    # A teacher that was away when the file was written may be back.
    if found is not None and (found.kl_to_teacher is not None or not run.config().get("teacher_weights")):
        return found
    made = _compute(run)
    with suppress(OSError):  # a folder that cannot be written costs time, not the report
        write_text(path, json.dumps({"format": FORMAT, "weights": digest, **asdict(made)}, indent=2) + "\n")
    return made


def _compute(run: RunFolder) -> Measures:
    summary, row, mine, teacher = run.summary(), read_row(run), answers(run), teacher_answers(run)
    if not bool(mine.logits.isfinite().all()):
        raise InputError(f"{run.path}: it diverged (its exported weights give logits that are not finite)")
    recorded = summary[summary.get("exported", "last")].get("agreement")
    return Measures(
        last=row.last,
        best=row.best,
        best_epoch=summary["best"]["epoch"],
        ece=_calibration_error(mine),
        agreement=recorded if teacher is None else agreement(mine.logits, teacher.logits),
        kl_to_teacher=None if teacher is None else _divergence(mine.logits, teacher.logits),
        val_loss=float(F.cross_entropy(mine.logits, mine.labels)),
        per_class=_per_class(mine),
        parameters=row.parameters,
        macs=_macs(run),
        seconds=row.seconds - summary.get("bank_seconds", 0.0),
        images_per_second=statistics.median(map(_speed, run.epochs())),
        peak_memory=summary.get("peak_memory_bytes"),
    )


def _speed(epoch: dict[str, Any]) -> float:
    own = epoch["seconds"] - epoch.get("bank_seconds", 0.0)
    return float(epoch["images_per_second"] * epoch["seconds"] / max(own, 1e-9))


def _calibration_error(mine: Answers) -> float:
    from torchmetrics.functional.classification import multiclass_calibration_error

    probabilities, classes = mine.logits.softmax(1), mine.logits.shape[1]
    error = multiclass_calibration_error(probabilities, mine.labels, num_classes=classes, n_bins=BINS, norm="l1")
    return 100 * float(error)


def _per_class(mine: Answers) -> tuple[float, ...]:
    from torchmetrics.functional.classification import multiclass_accuracy

    shares = multiclass_accuracy(mine.logits, mine.labels, num_classes=mine.logits.shape[1], average=None)
    return tuple(round(100 * share, 4) for share in shares.tolist())  # it computes in float32


def _divergence(student: Tensor, teacher: Tensor) -> float:
    from torchmetrics.functional.regression import kl_divergence

    logs = (teacher.double().log_softmax(1), student.double().log_softmax(1))
    return float(kl_divergence(*logs, log_prob=True))


def _macs(run: RunFolder) -> int:
    data = dataset_of(run)
    return count_macs(student_of(run, data), data)


def count_macs(model: nn.Module, data: DataSet) -> int:
    """Multiplications with additions for one image, in convolutions, linear layers and attention.

    Args:
        model: on the CPU, in evaluation mode.
        data: with images of the size it takes.
    """
    from torch.utils.flop_counter import FlopCounterMode

    image = torch.zeros(1, *data.val.images.shape[1:])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return int(counter.get_total_flops()) // 2  # it counts a multiplication and an addition as two


def _read(path: Path, digest: str) -> Measures | None:
    """What a file holds; None where there is none, or it is damaged, older or about other weights."""
    try:
        found: dict[str, Any] = read_json(path)
        if (found.pop("format"), found.pop("weights")) != (FORMAT, digest):
            return None
        if found.keys() != {field.name for field in fields(Measures)}:
            return None
        return Measures(**{**found, "per_class": tuple(found["per_class"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
