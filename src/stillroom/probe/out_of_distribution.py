"""Out-of-distribution detection: can the images of another set be told from the validation images by the logits?

References: Hendrycks and Gimpel, ICLR 2017 (maximum softmax probability); Liu et al., NeurIPS 2020 (energy); Hendrycks
et al., ICML 2022 (maximum logit).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stillroom.data import DataSet
from stillroom.errors import InputError
from stillroom.probe.other_sets import load_other, set_labels
from stillroom.probe.probe_kind import Measurement
from stillroom.probe.probe_options import ProbeOptions
from stillroom.probe.subject import Subject

# Score -> computes it from logits (N, C) in float64; larger for images like those of the training.
SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "probability": lambda logits: -_log_rest(logits),
    "energy": lambda logits: logits.logsumexp(1),
    "logit": lambda logits: logits.max(1).values,
}


class OutOfDistribution:
    """The probe ``ood``: the validation images against each set of ``--ood``."""

    version = 1
    students_only = False

    def check(self, options: ProbeOptions) -> None:
        """Refuse sets that cannot be loaded as images.

        Raises:
            InputError: naming the set.
        """
        set_labels("ood", options.ood or [])

    def measurements(self, subject: Subject) -> Iterable[Measurement]:
        """One for each set.

        Raises:
            InputError: a set cannot be loaded, or holds validation images of the run.
        """
        for label, text in set_labels("ood", subject.options.ood or []).items():
            data = load_other("ood", text, subject)
            if bool(torch.isin(data.val.content(), subject.data.val.content()).any()):
                raise InputError(
                    f"ood={text}: some of its validation images are validation images of {subject.run.path}; give a "
                    "set of other images"
                )
            yield Measurement(label, partial(detection_of, subject, data), {"images": data.val.fingerprint})


def detection_of(subject: Subject, other: DataSet) -> dict[str, Any]:
    """How well a network's logits tell the validation images from those of another set.

    Returns:
        For each score of :data:`SCORES`: ``auroc`` and ``fpr95`` in percent; and the number of ``images`` and
        ``other_images``.

    Raises:
        InputError: some logits are not finite.
    """
    inside, outside = (subject.logits(source).double() for source in (subject.data.val, other.val))
    if not bool(inside.isfinite().all() and outside.isfinite().all()):
        raise InputError(f"the logits of {subject.name} are not finite")
    found: dict[str, Any] = {name: separation(score(inside), score(outside)) for name, score in SCORES.items()}
    return found | {"images": len(inside), "other_images": len(outside)}


def separation(inside: Tensor, outside: Tensor) -> dict[str, float]:
    """How well a score separates two sets of images.

    Args:
        inside: (N,), of the images that should have the larger score.
        outside: (M,), of the others.

    Returns:
        ``auroc``: probability that an image of the first set has the larger score, in percent. ``fpr95``: fraction of
        the second set above the threshold that 95 % of the first set reach, in percent.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    scores = torch.cat([inside, outside]).numpy()
    truth = torch.cat([torch.ones(len(inside)), torch.zeros(len(outside))]).numpy()
    wrong, right, _ = roc_curve(truth, scores, drop_intermediate=False)
    return {"auroc": 100 * float(roc_auc_score(truth, scores)), "fpr95": 100 * float(wrong[right >= 0.95].min())}


def _log_rest(logits: Tensor) -> Tensor:
    """The log of one minus the largest probability: it still tells images apart whose probability rounds to 1."""
    places = logits.argmax(1, keepdim=True)
    rest = logits.scatter(1, places, float("-inf"))
    return rest.logsumexp(1) - logits.logsumexp(1)
