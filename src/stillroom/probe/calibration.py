"""Calibration: whether probabilities are as high as the accuracy, before and after temperature scaling.

It needs stored predictions only. References: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillroom.errors import InputError
from stillroom.probe.probe_kind import Measurement
from stillroom.probe.probe_options import ProbeOptions
from stillroom.probe.subject import Subject
from stillroom.report.metrics import BINS, calibration_error

TEMPERATURES = (0.05, 20.0)  # the range in which one is looked for


class Calibration:
    """The probe ``calibration``."""

    version = 1
    students_only = False

    def check(self, options: ProbeOptions) -> None:
        """Every setting is possible."""

    def measurements(self, subject: Subject) -> Iterable[Measurement]:
        """One, on the validation images."""

        def measure() -> dict[str, Any]:
            found = subject.predictions()
            return calibration_of(found.logits, found.labels, subject.options.seed)

        yield Measurement("validation", measure, {"seed": subject.options.seed})


def calibration_of(logits: Tensor, labels: Tensor, seed: int) -> dict[str, Any]:
    """The calibration of logits.

    Args:
        logits: (N, C), finite.
        labels: (N,), values in [0, C).
        seed: divides the images into two halves: the temperature is fitted on one and measured on the other.

    Returns:
        ``ece`` (%) and ``nll`` (nats) of all images; ``temperature``; ``ece_before``, ``ece_after``, ``nll_before`` and
        ``nll_after`` of the second half, without and with it; ``bins`` of the reliability diagram over all images, from
        the lowest confidence: ``count``, and mean ``confidence`` and ``accuracy`` in [0, 1], None in empty bins.

    Raises:
        InputError: there are fewer than two images, or logits that are not finite.
    """
    if len(labels) < 2 or not bool(logits.isfinite().all()):
        raise InputError("calibration needs two or more images with finite logits")
    logits = logits.double()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    fitted, rest = order[: len(order) // 2].sort().values, order[len(order) // 2 :].sort().values
    temperature = best_temperature(logits[fitted], labels[fitted])
    before, after = logits[rest], logits[rest] / temperature
    return {
        "ece": calibration_error(logits, labels),
        "nll": float(F.cross_entropy(logits, labels)),
        "temperature": temperature,
        "ece_before": calibration_error(before, labels[rest]),
        "ece_after": calibration_error(after, labels[rest]),
        "nll_before": float(F.cross_entropy(before, labels[rest])),
        "nll_after": float(F.cross_entropy(after, labels[rest])),
        "bins": reliability_bins(logits, labels),
    }


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature in :data:`TEMPERATURES` with the smallest cross-entropy of ``logits / temperature``.

    Args:
        logits: (N, C), float64.
        labels: (N,).
    """
    from scipy.optimize import minimize_scalar

    bounds = tuple(map(math.log, TEMPERATURES))
    found = minimize_scalar(lambda t: float(F.cross_entropy(logits / math.exp(t), labels)), bounds=bounds,
                            method="bounded")  # fmt: skip
    return math.exp(float(found.x))


def reliability_bins(logits: Tensor, labels: Tensor, bins: int = BINS) -> list[dict[str, float | int | None]]:
    """The reliability diagram: for each of ``bins`` equal ranges of confidence its images, confidence and accuracy."""
    confidence, predicted = logits.softmax(1).max(1)
    places = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence.numpy(), side="right")
    count = np.bincount(places, minlength=bins)
    sums = (np.bincount(places, values.double().numpy(), bins) for values in (confidence, predicted == labels))
    return [
        {"count": int(n), "confidence": float(c / n) if n else None, "accuracy": float(a / n) if n else None}
        for n, c, a in zip(count, *sums, strict=True)
    ]
