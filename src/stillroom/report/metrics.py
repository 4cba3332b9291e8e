"""The numbers of one finished run, from its record: scores, calibration, closeness to the teacher, cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from stillroom.engine.predictions import Predictions, predictions_of, teacher_predictions_of
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.report.run_detections import class_scores, detections_of, teacher_detections_of
from stillroom.report.runs_table import read_row
from stillroom.report.usable_runs import is_finite, unusable_reason
from stillroom.scores import score_of

BINS = 15
# Measures of runs whose score is no mean over images, in place of those that follow from logits.
NO_PREDICTIONS: dict[str, Any] = {
    "ece": None, "agreement": None, "kl_to_teacher": None, "val_loss": None, "per_class": (),
}  # fmt: skip


@dataclass(frozen=True)
class Measures:
    """What one run reached and what it cost.

    Attributes:
        last: main score after the last epoch, in percent.
        best: highest main score of any epoch, in percent. The epoch was selected on these images, so the number is
            optimistically biased.
        best_epoch: the epoch it was reached in, counted from 1.
        ece: expected calibration error over 15 bins, in percent; of the exported weights, as all up to per_class;
            None, as the next three, for a score that is no mean over images.
        agreement: fraction of validation images on which student and teacher predict the same class, in percent; None
            without a teacher.
        kl_to_teacher: mean Kullback-Leibler divergence of the student's probabilities from the teacher's at
            temperature 1, in nats; None without a teacher, or without its predictions.
        val_loss: mean cross-entropy on the validation images, in nats.
        per_class: score of each class, in percent, in the order of the classes; accuracy is 0 for a class without
            images, AP is None for a class without objects; empty where they are not known.
        parameters: of the trained model.
        macs: multiply-accumulate operations for one image, in convolutions, linear layers and attention; None where
            they could not be counted.
        seconds: spent in training steps, without those that computed teacher logits for the bank.
        images_per_second: training images in each of these seconds, median over the epochs.
        peak_memory: largest memory of training in bytes; None where the run did not record it.
        further: the task's other scores after the last epoch in percent, by their keys; those that were measured.
    """

    last: float
    best: float
    best_epoch: int
    ece: float | None
    agreement: float | None
    kl_to_teacher: float | None
    val_loss: float | None
    per_class: tuple[float | None, ...]
    parameters: int
    macs: int | None
    seconds: float
    images_per_second: float
    peak_memory: int | None
    further: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TeacherMeasures:
    """A pair's teacher on the pair's own validation images, which need not be those of the teacher's own run.

    Attributes:
        score: the main score in percent, of the weights that taught.
        ece: expected calibration error over 15 bins, in percent; None without its predictions.
        parameters: of the teacher.
        macs: as in :class:`Measures`.
        seconds: spent in the training steps of its own run; None without one, as for the next two.
        images_per_second: training images in each of these seconds, median over the epochs.
        peak_memory: largest memory of its training in bytes.
        further: as in :class:`Measures`, as the next.
        per_class: of scores that are no mean over images only.
    """

    score: float
    ece: float | None
    parameters: int
    macs: int | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    peak_memory: int | None = None
    agreement: None = None
    kl_to_teacher: None = None
    further: Mapping[str, float] = field(default_factory=dict)
    per_class: tuple[float | None, ...] = ()


def measure_teacher(run: RunFolder, own: RunFolder | None) -> TeacherMeasures | None:
    """The numbers of the teacher of a finished run, on the validation images of that run.

    Args:
        run: the student's.
        own: the teacher's finished run, if it has one.

    Returns:
        None for a run without a teacher.
    """
    summary = run.summary()
    scored, score = summary.get("teacher"), score_of(run.config())
    if not isinstance(scored, Mapping) or not isinstance(scored.get(score.key), float | int):
        return None
    predictions = teacher_predictions_of(run) if score.per_image else None
    found = None if score.per_image else teacher_detections_of(run)
    spent: dict[str, Any] = {}
    if own is not None and not unusable_reason(own):
        spent = {
            "seconds": own.summary()["seconds"] - own.summary().get("bank_seconds", 0.0),
            "images_per_second": statistics.median(map(_speed, own.epochs())),
            "peak_memory": own.summary().get("peak_memory_bytes"),
        }
    return TeacherMeasures(
        score=scored[score.key],
        ece=None if predictions is None else calibration_error(predictions.logits, predictions.labels),
        parameters=summary["teacher_parameters"],
        macs=summary.get("teacher_macs"),
        further={one.key: scored[one.key] for one in score.further if is_finite(scored.get(one.key))},
        per_class=() if found is None else class_scores(run, found),
        **spent,
    )


def measure(run: RunFolder) -> Measures:
    """The numbers of a finished run.

    Raises:
        InputError: the run is not finished, or lacks its predictions.
    """
    summary, row, score = run.summary(), read_row(run), score_of(run.config())
    if score.per_image:
        of_predictions = _of_predictions(run)
    else:
        of_predictions = NO_PREDICTIONS | {"per_class": class_scores(run, detections_of(run))}
    if row.last is None or row.best is None:
        raise InputError(f"{run.path}: its {score.name} was not measured")
    last = summary["last"]
    return Measures(
        last=row.last,
        best=row.best,
        best_epoch=summary["best"]["epoch"],
        **of_predictions,
        further={one.key: last[one.column] for one in score.further if is_finite(last.get(one.column))},
        parameters=row.parameters,
        macs=summary.get("macs"),
        seconds=row.seconds - summary.get("bank_seconds", 0.0),
        images_per_second=statistics.median(map(_speed, run.epochs())),
        peak_memory=summary.get("peak_memory_bytes"),
    )


def _of_predictions(run: RunFolder) -> dict[str, Any]:
    """The numbers that follow from the logits of the exported weights."""
    summary, mine, teacher = run.summary(), predictions_of(run), teacher_predictions_of(run)
    if not bool(mine.logits.isfinite().all()):
        raise InputError(f"{run.path}: it diverged (its exported weights give logits that are not finite)")
    return {
        "ece": calibration_error(mine.logits, mine.labels),
        "agreement": summary[summary.get("exported", "last")].get("agreement"),
        "kl_to_teacher": None if teacher is None else _divergence(mine.logits, teacher.logits),
        "val_loss": float(F.cross_entropy(mine.logits, mine.labels)),
        "per_class": _per_class(mine),
    }


def _speed(epoch: dict[str, Any]) -> float:
    own = epoch["seconds"] - epoch.get("bank_seconds", 0.0)
    return float(epoch["images_per_second"] * epoch["seconds"] / max(own, 1e-9))


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """The expected calibration error of logits (N, C) against labels (N,) over 15 bins, in percent."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    error = multiclass_calibration_error(logits.softmax(1), labels, num_classes=logits.shape[1], n_bins=BINS, norm="l1")
    return 100 * float(error)


def _per_class(mine: Predictions) -> tuple[float, ...]:
    from torchmetrics.functional.classification import multiclass_accuracy

    fractions = multiclass_accuracy(mine.logits, mine.labels, num_classes=mine.logits.shape[1], average=None)
    return tuple(round(100 * fraction, 4) for fraction in fractions.tolist())  # it computes in float32


def _divergence(student: Tensor, teacher: Tensor) -> float:
    from torchmetrics.functional.regression import kl_divergence

    logs = (teacher.double().log_softmax(1), student.double().log_softmax(1))
    return float(kl_divergence(*logs, log_prob=True))
