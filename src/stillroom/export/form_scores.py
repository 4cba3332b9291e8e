"""Scores of one exported form of a student, over all validation images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stillroom.report.metrics import calibration_error
from stillroom.tasks.classification_score import agreement, score


@dataclass(frozen=True)
class FormScores:
    """Scores of one form.

    Attributes:
        top1: in percent.
        top5: in percent.
        loss: mean cross-entropy.
        ece: expected calibration error over 15 bins, in percent.
        same: images for which the class is the one that PyTorch predicts, in percent.
        images: their number.
    """

    top1: float
    top5: float
    loss: float
    ece: float
    same: float
    images: int


def form_scores(logits: Tensor, labels: Tensor, reference: Tensor) -> FormScores:
    """Measure logits (N, C) against labels (N,) and against PyTorch's logits (N, C)."""
    found = score(logits, labels)
    ece = calibration_error(logits, labels)
    same = agreement(logits, reference)
    # By argmax, as users predict: among equal logits it takes the first, topk any.
    top1 = 100 * float((logits.argmax(1) == labels).double().mean())
    return FormScores(top1, found.top5, found.loss, ece, same, found.count)
