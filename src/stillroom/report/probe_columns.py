"""The columns of the tables of probes, by probe: which numbers of a record are shown, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stillroom.formatting import duration, short_count, size_in_words
from stillroom.report.corruption_errors import (
    CORRUPTION_GROUPS,
    accuracy_of_kinds,
    mean_corruption_error,
    relative_corruption_error,
)
from stillroom.report.probe_record import Results


def two_digits(value: float) -> str:
    """A number with two digits behind the point."""
    return f"{value:.2f}"


@dataclass(frozen=True)
class ProbeColumn:
    """One column.

    Attributes:
        head: the heading.
        note: what it means, in a sentence.
        value: the number in a run's results; None where there is none. The second argument are the results of the
            reference method's run of the same seed, or of its first; None where there are none.
        text: the number as it is shown.
        interval: half of the number's 95 % interval, which is shown where a row has one run; None without one.
    """

    head: str
    note: str
    value: Callable[[Results, Results | None], float | None]
    text: Callable[[float], str] = two_digits
    interval: Callable[[Results, Results | None], float | None] | None = None


@dataclass(frozen=True)
class ProbeTable:
    """How the numbers of a probe are shown.

    Attributes:
        caption: of the table; ``{on}`` is the set.
        columns: in order.
    """

    caption: str
    columns: tuple[ProbeColumn, ...]


def number(*path: str, scale: float = 1.0) -> Callable[[Results, Results | None], float | None]:
    """A function that takes a number out of results: ``number("a", "b")`` is ``results["a"]["b"]``, None without it.

    Args:
        path: names, from the outside inward.
        scale: factor.
    """

    def value(results: Results, _: Results | None) -> float | None:
        found: Any = results
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return scale * found if isinstance(found, int | float) else None

    return value


def columns(*rows: Sequence[Any] | ProbeColumn) -> tuple[ProbeColumn, ...]:
    """Columns from (head, note, value) or (head, note, value, text)."""
    return tuple(row if isinstance(row, ProbeColumn) else ProbeColumn(*row) for row in rows)


def _time(part: str) -> ProbeColumn:
    notes = {
        "training": "of the network itself, training steps only",
        "teacher": "of the teacher, which all students share",
        "bank": "of computing teacher logits for the bank, which all students share",
        "tuning": "of all trials of the method, which all seeds share",
    }
    note = f"time {notes[part]}: times threads on a CPU, times GPUs on a GPU; where it was recorded"
    return ProbeColumn(f"{part} time", note, number("hours", part, scale=3600), duration)


def _shots(name: str) -> ProbeColumn:
    note = "accuracy of the nearest class mean over random episodes; of a single run with its 95 % interval"
    value, interval = (number("few_shot", name, key) for key in ("accuracy", "interval"))
    return ProbeColumn(f"{name} %", note, value, interval=interval)


def _group(name: str) -> ProbeColumn:
    kinds = CORRUPTION_GROUPS[name]
    note = f"mean accuracy over {', '.join(kinds)}".replace("_", " ")
    return ProbeColumn(f"{name} %", note, lambda results, _: accuracy_of_kinds(results, kinds))


SHOTS = ("5-way 1-shot", "5-way 5-shot", "all-way 1-shot", "all-way 5-shot")
OOD = {"probability": "maximum softmax probability", "energy": "energy", "logit": "maximum logit"}

# In the order of the page.
PROBE_TABLES: dict[str, ProbeTable] = {
    "transfer": ProbeTable(
        "Transfer to {on}: frozen features",
        columns(
            ("logistic %", "accuracy of logistic regression on the frozen features", number("logistic", "accuracy")),
            ("published %", "accuracy of a linear classifier trained by the published schedule: SGD, 100 epochs, "
             "learning rate 0.1 divided by 10 at epochs 30, 60 and 90", number("published", "accuracy")),
            *map(_shots, SHOTS),
        ),
    ),
    "calibration": ProbeTable(
        "Calibration on the {on} images",
        columns(
            ("ECE %", "expected calibration error over 15 bins", number("ece")),
            ("NLL", "mean negative log-likelihood of the label, in nats", number("nll"), "{:.3f}".format),
            ("temperature", "that minimises the NLL on one half of the images; above 1: overconfident",
             number("temperature")),
            ("ECE % of the half", "on the other half, without temperature", number("ece_before")),
            ("scaled ECE %", "on the same half, with the temperature", number("ece_after")),
            ("scaled NLL", "on the same half, with the temperature, in nats", number("nll_after"), "{:.3f}".format),
        ),
    ),
    "robustness": ProbeTable(
        "Robustness: {on} corruptions of images",
        columns(
            ("clean %", "accuracy on the images before corruption", number("clean")),
            ("corrupted %", "mean accuracy over all corruptions and severities", number("mean")),
            *map(_group, CORRUPTION_GROUPS),
            ("mCE %", "mean corruption error relative to the reference method, not to AlexNet; lower is better",
             mean_corruption_error),
            ("relative mCE %", "the same of the rise of the error over the clean error", relative_corruption_error),
            ("agreement %", "fraction of corrupted images with the teacher's prediction", number("mean_agreement")),
            ("KL", "mean divergence of the probabilities from the teacher's on corrupted images, in nats",
             number("mean_kl"), "{:.3f}".format),
        ),
    ),
    "ood": ProbeTable(
        "Telling {on} from the validation images",
        columns(
            *((f"AUROC % {name}", f"probability that a validation image has the larger {words} than one of the other "
               "set", number(name, "auroc")) for name, words in OOD.items()),
            *((f"FPR95 % {name}", f"fraction of the other set above the {words} that 95 % of the validation images "
               "reach; lower is better", number(name, "fpr95")) for name, words in OOD.items()),
        ),
    ),
    "cost": ProbeTable(
        "Cost, measured on {on}",
        columns(
            ("images/s", "predicted images per second in batches of 64, median", number("images_per_second"),
             "{:,.0f}".format),
            ("latency ms", "of one image, median", number("latency_ms")),
            ("J/1,000 images", "energy that an NVIDIA GPU used for 1,000 predicted images, by its own counter",
             number("joules_per_1000_images")),
            ("parameters", "of the network", number("parameters"), short_count),
            ("MACs", "multiply-accumulate operations for one image", number("macs"), short_count),
            ("peak memory", "largest memory use of its training, where it was recorded", number("peak_memory"),
             lambda size: size_in_words(int(size))),
            *map(_time, ("training", "teacher", "bank", "tuning")),
        ),
    ),
}  # fmt: skip
