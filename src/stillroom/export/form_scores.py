"""How good a student is in one of its forms, over all validation images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stillroom.engine.evaluate import agreement, score
from stillroom.report.metrics import calibration_error


@dataclass(frozen=True)
class Scores:
    """Numbers of one form of a student.

    Attributes:
        top1: in percent.
        top5: in percent.
        loss: mean cross-entropy.
        ece: expected calibration error, 15 bins, in percent points.
        same: images with the same first class as PyTorch's answer, in percent.
        images: looked at.
    """

    top1: float
    top5: float
    loss: float
    ece: float
    same: float
    images: int


def scores(logits: Tensor, labels: Tensor, reference: Tensor) -> Scores:
    """Measure logits (N, C) against labels (N,) and against PyTorch's logits (N, C)."""
    found = score(logits, labels)
    ece = calibration_error(logits, labels)
    same = agreement(logits, reference)
    # As users take it: where classes are equal, argmax names the first of them and topk any.
    top1 = 100 * float((logits.argmax(1) == labels).double().mean())
    return Scores(top1, found.top5, found.loss, ece, same, found.count)
