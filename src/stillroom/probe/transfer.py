"""Transfer: what the frozen features of a network are worth on other data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from typing import Any

from stillroom.data import DataSet
from stillroom.data.source import Source
from stillroom.errors import InputError
from stillroom.probe.few_shot import EPISODES, EPISODES_OF_ALL, SHOTS, WAYS, few_shot
from stillroom.probe.linear_probe import FrozenFeatures, logistic_probe, published_probe
from stillroom.probe.other_sets import load_other, set_labels
from stillroom.probe.probe_kind import Measurement
from stillroom.probe.probe_options import ProbeOptions
from stillroom.probe.subject import Subject


class Transfer:
    """The probe ``transfer``: a linear probe and few-shot accuracy on each set of ``--on``."""

    version = 1
    students_only = False

    def check(self, options: ProbeOptions) -> None:
        """Refuse sets without a class for each image.

        Raises:
            InputError: naming the set.
        """
        set_labels("on", options.on or [])

    def measurements(self, subject: Subject) -> Iterable[Measurement]:
        """One for each set.

        Raises:
            InputError: a set cannot be loaded, or one of its splits has no labelled images.
        """
        for label, text in set_labels("on", subject.options.on or []).items():
            data = load_other("on", text, subject)
            for split, source in (("training", data.train), ("validation", data.val)):
                if source.unlabelled == len(source):
                    raise InputError(f"on={text}: its {split} images have no labels; put them into class folders")
            settings = {"seed": subject.options.seed, "train": data.train.fingerprint, "test": data.val.fingerprint}
            yield Measurement(label, partial(transfer_of, subject, data), settings)


def transfer_of(subject: Subject, data: DataSet) -> dict[str, Any]:
    """The numbers of one set.

    Args:
        subject: the network, whose embedding is probed.
        data: the classifier is trained on its training images and measured on its validation images.

    Returns:
        ``logistic`` and ``published``, with ``accuracy`` in percent; ``few_shot``, by "5-way 1-shot" and so on, with
        ``accuracy`` (%), ``interval`` (points) and ``episodes``; ``train_images``, ``test_images``, ``classes`` and
        ``width`` of the features.

    Raises:
        InputError: the network has no embedding, or it is not finite.
    """
    seed, classes = subject.options.seed, len(data.train.classes)
    train, test = (_features(subject, source.labelled()) for source in (data.train, data.val))
    accuracy, strength = logistic_probe(train, test, seed)
    return {
        "logistic": {"accuracy": accuracy, "C": strength},
        "published": {"accuracy": published_probe(train, test, classes, seed)},
        "few_shot": _few_shots(test, seed),
        "train_images": len(train.labels),
        "test_images": len(test.labels),
        "classes": classes,
        "width": train.features.shape[1],
    }


def _features(subject: Subject, source: Source) -> FrozenFeatures:
    features = subject.embedding(source)
    if not bool(features.isfinite().all()):
        raise InputError(f"the features of {subject.name} are not finite")
    return FrozenFeatures(features, source.labels)


def _few_shots(test: FrozenFeatures, seed: int) -> dict[str, Any]:
    found = {}
    for ways, name, episodes in ((WAYS, f"{WAYS}-way", EPISODES), (0, "all-way", EPISODES_OF_ALL)):
        for shots in SHOTS:
            result = few_shot(test.features, test.labels, ways, shots, episodes, seed)
            found[f"{name} {shots}-shot"] = None if result is None else asdict(result)
    return found
