"""Accuracy of a classifier on the validation images of a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stillroom.config import DataOptions
from stillroom.data import DataSet
from stillroom.data.decoding_workers import worker_count
from stillroom.models.borrowed import borrowed
from stillroom.models.predict import predict
from stillroom.prepare.measured_model import MeasuredModel
from stillroom.prepare.network_teacher import has_published_input
from stillroom.prepare.published_model import published_model
from stillroom.prepare.validation_crop import with_published_crop
from stillroom.runtime.device import Machine
from stillroom.tasks.classification import predict_all
from stillroom.tasks.classification_score import Evaluation, score


@dataclass(frozen=True, slots=True)
class ClassMapping:
    """How the classes of published weights become those of the data: the settings of the same names."""

    class_map: str
    unmapped: Literal["refuse", "lowest"]


def evaluate_classifier(
    model: MeasuredModel,
    data: DataSet,
    options: DataOptions,
    machine: Machine,
    batch_size: int,
    mapping: ClassMapping,
    say: Callable[[str], object],
    *,
    own_crop: bool,
) -> Evaluation:
    """Measure a classifier.

    Args:
        model: the classifier.
        data: images with labels.
        options: of the data.
        machine: where it computes.
        batch_size: images a step.
        mapping: for a classifier with published weights.
        say: told how such a classifier takes images, and how its classes are mapped.
        own_crop: whether images keep their crop; otherwise published weights get theirs.

    Raises:
        InputError: the model cannot be built, or is not for these classes.
    """
    name, checkpoint, pretrained = model.name, model.checkpoint, model.pretrained
    published = has_published_input(name, checkpoint, pretrained=pretrained)
    if published and not own_crop:
        data = with_published_crop(data, name, model.trust, say)
    loader = data.val.loader(
        batch_size=batch_size, input_format=data.input_format, shuffle=False, device=machine.device,
        workers=worker_count(options.workers),
    )  # fmt: skip
    if published:
        teacher = published_model(
            name, data, options, machine, say, checkpoint=checkpoint, pretrained=pretrained,
            class_map=mapping.class_map, unmapped=mapping.unmapped, trust=model.trust,
        )  # fmt: skip
        return score(*predict_all(teacher, loader.epoch(0)))
    network = model.build(data)
    with borrowed(model.module):
        return score(*predict(network.to(machine.device), loader.epoch(0), machine.autocast()))
