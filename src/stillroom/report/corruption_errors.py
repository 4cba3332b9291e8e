"""Corruption errors: errors on corrupted images relative to those of a chosen student.

Hendrycks and Dietterich, ICLR 2019, divide by the errors of AlexNet. Here the reference is a student of the same
comparison, so the numbers cannot be compared with published ones.
"""

from __future__ import annotations

from typing import Any

from stillroom.report.probe_record import Results

# Group -> corruptions; the names are those of the official files.
CORRUPTION_GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}


def mean_corruption_error(results: Results, reference: Results | None) -> float | None:
    """The mean over the corruptions of the error relative to the reference's, in percent; below 100 is better.

    The error of a corruption is averaged over the severities before it is divided.

    Args:
        results: of the probe ``robustness``.
        reference: those of the reference.

    Returns:
        None without a reference, with other corruptions or severities, or where the reference makes no error.
    """
    return _mean_ratio(results, reference, relative=False)


def relative_corruption_error(results: Results, reference: Results | None) -> float | None:
    """As :func:`mean_corruption_error`, of the rise of the error over the clean error.

    Returns:
        None as there, and where the reference's error does not rise.
    """
    return _mean_ratio(results, reference, relative=True)


def accuracy_of_kinds(results: Results, kinds: tuple[str, ...]) -> float | None:
    """Mean accuracy over some corruptions and all severities, in percent; None where one of them is missing."""
    rows: dict[str, Any] = results.get("accuracy", {})
    if not all(kind in rows for kind in kinds):
        return None
    return sum(_average(rows[kind]) for kind in kinds) / len(kinds)


def _mean_ratio(results: Results, reference: Results | None, *, relative: bool) -> float | None:
    if reference is None or results["severities"] != reference["severities"]:
        return None
    if set(results["accuracy"]) != set(reference["accuracy"]):
        return None
    ratios = []
    for kind, row in results["accuracy"].items():
        over, under = (
            (found["clean"] if relative else 100) - _average(accuracy)
            for found, accuracy in ((results, row), (reference, reference["accuracy"][kind]))
        )
        if under <= 0:
            return None
        ratios.append(over / under)
    return 100 * _average(ratios)


def _average(values: list[float]) -> float:
    return sum(values) / len(values)
