"""Robustness: accuracy on corrupted images, and agreement with the teacher there.

Reference: Hendrycks and Dietterich, ICLR 2019. Their mean corruption error is relative to AlexNet; ours is relative to
a chosen student, see :mod:`stillroom.report.corruption_errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stillroom.data.source import Source
from stillroom.errors import InputError
from stillroom.probe.corrupted_sets import CorruptedSet, CStyleSet, even_choice, in_memory, severities_of
from stillroom.probe.official_c import is_official, open_official
from stillroom.probe.probe_kind import Measurement
from stillroom.probe.probe_options import ProbeOptions
from stillroom.probe.subject import Subject
from stillroom.report.views.data_uris import image_uri

C_STYLE = "C-style"
EXAMPLE_SIDE = 64  # pixels at most

Logits = dict[tuple[str, int], tuple[Tensor, Tensor]]  # (corruption, severity) -> logits (N, C), labels (N,)


class Robustness:
    """The probe ``robustness``: our own corruptions of the validation images, and each folder of ``--corrupted``."""

    version = 2
    students_only = False

    def check(self, options: ProbeOptions) -> None:
        """Refuse severities and folders that are impossible.

        Raises:
            InputError: naming the setting.
        """
        severities_of(options.severities)
        for folder in options.corrupted or ():
            if not is_official(Path(folder).expanduser()):
                raise InputError(
                    f"corrupted={folder} holds no corrupted images; give a folder with labels.npy and a .npy file for "
                    "each corruption (CIFAR-C), or with CORRUPTION/SEVERITY/CLASS/IMAGE (ImageNet-C)"
                )

    def measurements(self, subject: Subject) -> Iterable[Measurement]:
        """One on our own corruptions, and one for each folder.

        Raises:
            InputError: the validation images have no labels or cannot be corrupted, or a folder has other classes.
        """
        if subject.data.val.unlabelled:
            raise InputError(f"{subject.run.path}: its validation images have no labels; robustness needs them")
        options = subject.options
        sets: dict[str, CorruptedSet] = {C_STYLE: _c_style(subject.data.val, options.images, options.seed)}
        for folder in options.corrupted or ():
            path = Path(folder).expanduser().resolve()
            sets[path.name] = open_official(path, subject.data.val, options.images)
        severities = severities_of(options.severities)
        teacher = _teacher_of(subject)
        for name, images in sets.items():
            yield Measurement(
                name,
                partial(robustness_of, subject, teacher, images, severities),
                {
                    "corrupted": images.fingerprint, "severities": list(severities), "seed": options.seed,
                    "teacher": None if teacher is None else teacher.identity["weights"],
                },
            )  # fmt: skip


def robustness_of(
    subject: Subject, teacher: Subject | None, images: CorruptedSet, severities: Sequence[int]
) -> dict[str, Any]:
    """Accuracy on corrupted images, and agreement with a teacher.

    Args:
        subject: the network.
        teacher: its teacher; None for no agreement.
        images: with the classes of the network.
        severities: those that are measured.

    Returns:
        ``clean`` accuracy; ``accuracy``: corruption -> accuracy at each severity; their ``mean``; all in percent;
        ``agreement`` in percent and ``kl`` in nats, as for accuracy, and ``mean_agreement`` and ``mean_kl``, None
        without a teacher; ``severities``; the number of ``images`` of each corruption and severity; and for our own
        corruptions ``examples`` of one image as data URIs: as it is, and with each corruption at a middle severity.

    Raises:
        InputError: images cannot be read, or logits are not finite.
    """
    own = _logits(subject, images, severities)
    kinds = images.corruptions
    accuracy = {kind: [_fraction(own[kind, s][0].argmax(1) == own[kind, s][1]) for s in severities] for kind in kinds}
    found: dict[str, Any] = {
        "images": images.count, "severities": list(severities), "clean": _clean_accuracy(subject, images),
        "accuracy": accuracy, "mean": _mean(accuracy),
        "agreement": None, "kl": None, "mean_agreement": None, "mean_kl": None,
    }  # fmt: skip
    if isinstance(images, CStyleSet):
        found["examples"] = _examples(images, severities)
    taught = None if teacher is None else _teacher_logits(teacher, images, severities)
    if taught is not None:
        pairs = {key: (own[key][0], taught[key][0]) for key in own}
        agreement = {kind: [_same(*pairs[kind, s]) for s in severities] for kind in kinds}
        divergence = {kind: [_divergence(*pairs[kind, s]) for s in severities] for kind in kinds}
        found |= {"agreement": agreement, "kl": divergence}
        found |= {"mean_agreement": _mean(agreement), "mean_kl": _mean(divergence)}
    return found


@lru_cache(maxsize=1)
def _c_style_set(fingerprint: str, wanted: int, seed: int, val: Source) -> CStyleSet:  # noqa: ARG001
    return CStyleSet(in_memory(val, even_choice(val.labels, wanted)), seed)


def _c_style(val: Source, wanted: int, seed: int) -> CStyleSet:
    """Our corruptions of validation images, which the networks of the same images share."""
    return _c_style_set(val.fingerprint, wanted, seed, val)


def _teacher_of(subject: Subject) -> Subject | None:
    """The teacher that a student's predictions are compared with; None where there is none or none is wanted."""
    if subject.role == "teacher" or not subject.options.teacher or not subject.run.config().get("teacher"):
        return None
    return Subject(subject.run, "teacher", subject.options, subject.machine)


_taught: dict[str, Logits | None] = {}  # of the teacher that was asked last


def _teacher_logits(teacher: Subject, images: CorruptedSet, severities: Sequence[int]) -> Logits | None:
    """The logits of a teacher, which its students share; None where it cannot be built again."""
    key = f"{teacher.identity['weights']} {images.fingerprint} {severities} {teacher.options.seed}"
    if key not in _taught:
        _taught.clear()
        try:
            _taught[key] = _logits(teacher, images, severities)
        except InputError:
            _taught[key] = None
    return _taught[key]


def _logits(subject: Subject, images: CorruptedSet, severities: Sequence[int]) -> Logits:
    found: Logits = {}
    for kind in images.corruptions:
        for severity in severities:
            parts = [(subject.logits(part), part.labels) for part in images.images(kind, severity)]
            logits, labels = (torch.cat(rows) for rows in zip(*parts, strict=True))
            if not bool(logits.isfinite().all()):
                raise InputError(f"the logits of {subject.name} are not finite on {kind} of severity {severity}")
            found[kind, severity] = logits, labels
    return found


def _clean_accuracy(subject: Subject, images: CorruptedSet) -> float:
    """On the same images before corruption where they are known, else on all validation images."""
    clean = images.clean if isinstance(images, CStyleSet) else subject.data.val
    return _fraction(subject.logits(clean).argmax(1) == clean.labels)


def _examples(images: CStyleSet, severities: Sequence[int]) -> dict[str, str]:
    middle = severities[len(severities) // 2]
    shown = {"as it is": images.clean.images[0]}
    shown |= {kind: next(iter(images.images(kind, middle))).images[0] for kind in images.corruptions}
    return {kind: image_uri(image, EXAMPLE_SIDE) for kind, image in shown.items()}


def _same(student: Tensor, teacher: Tensor) -> float:
    return _fraction(student.argmax(1) == teacher.argmax(1))


def _divergence(student: Tensor, teacher: Tensor) -> float:
    """Mean divergence of the student's probabilities from the teacher's, at temperature 1, in nats."""
    logs = (student.double().log_softmax(1), teacher.double().log_softmax(1))
    return float(F.kl_div(*logs, log_target=True, reduction="batchmean").clamp(min=0))


def _fraction(true: Tensor) -> float:
    """In percent."""
    return 100 * float(true.double().mean())


def _mean(by_kind: dict[str, list[float]]) -> float:
    values = [value for row in by_kind.values() for value in row]
    return sum(values) / len(values)
