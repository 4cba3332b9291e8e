"""Example images: the predictions of teacher and students on some validation images, with activation maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stillroom.report.aggregate import Pair
from stillroom.report.views.activation_maps import activation_maps
from stillroom.report.views.data_uris import cam_uri, image_uri
from stillroom.report.views.ranking import rankings_of, shown_ranking
from stillroom.report.views.view_models import (
    Network,
    StudentLogits,
    classes_of,
    labels_of,
    normalised,
    student_networks,
    teacher_logits,
    teacher_network,
    val_pixels,
)

EACH = 6  # images in a group
MOST_LISTED = 9  # classes of a prediction


@dataclass(frozen=True)
class ImagePrediction:
    """One network's prediction on one image.

    Attributes:
        top: the classes with the largest probabilities (temperature 1), and these.
        correct: whether the first of them is the label.
        label_probability: in [0, 1].
        cam: the activation map of the true class, a transparent PNG data URI to be stretched over the image; empty
            without one.
    """

    top: tuple[tuple[str, float], ...]
    correct: bool
    label_probability: float
    cam: str


@dataclass(frozen=True)
class Sample:
    """One validation image.

    Attributes:
        place: in the validation set, from 0.
        image: PNG data URI, at most 96 pixels a side.
        label: the true class.
        teacher: its prediction; None without a teacher.
        students: method label -> prediction.
    """

    place: int
    image: str
    label: str
    teacher: ImagePrediction | None
    students: dict[str, ImagePrediction]


@dataclass(frozen=True)
class ImageGroup:
    """Images chosen for one reason.

    Attributes:
        heading: the reason.
        count: how many images it holds for.
        samples: some of them, evenly spread over the set.
    """

    heading: str
    count: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Samples:
    """All chosen images.

    Attributes:
        groups: those that any image falls into; an image comes only once.
        images: in the validation set.
        depth: classes listed for each prediction.
        notes: why a network has no class-activation maps, a sentence each.
    """

    groups: tuple[ImageGroup, ...]
    images: int
    depth: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """A group before its networks are run.

    Attributes:
        heading: the reason.
        count: how many images it holds for.
        places: of those chosen, in the validation set.
    """

    heading: str
    count: int
    places: list[int]


def samples_of(pair: Pair, reference: str, each: int = EACH) -> Samples:
    """Choose images of a pair and gather the predictions of its networks.

    Args:
        pair: of the comparison.
        reference: label of the method that the most accurate other one is compared with; the first one where the
            pair lacks it.
        each: images in a group, at most.
    """
    labels, teacher, students = labels_of(pair), teacher_logits(pair), StudentLogits(pair)
    correct = {method: logits.argmax(1) == labels for method, logits in students.items()}
    teacher_correct = None if teacher is None else teacher.argmax(1) == labels
    choices = choose(teacher_correct, correct, reference if reference in correct else next(iter(correct)), each)
    places = [place for choice in choices for place in choice.places]
    depth = min(shown_ranking(rankings_of(pair)).depth, MOST_LISTED)
    classes = classes_of(pair)
    notes: list[str] = []

    def told(name: str, logits: Tensor, network: Network | None) -> dict[int, ImagePrediction]:
        cams, note = _cams(network, places)
        notes.extend([f"{name}: {note}"] if note else [])
        return {
            place: image_prediction(logits[place], int(labels[place]), classes, depth, cam)
            for place, cam in zip(places, cams, strict=True)
        }

    from_teacher, from_students = {}, {}
    if places and teacher is not None:
        from_teacher = told("teacher", teacher, teacher_network(pair))
    if places:
        from_students = {method: told(method, students[method], each) for method, each in student_networks(pair)}
    images = dict(zip(places, val_pixels(pair, places), strict=True))
    samples = {
        place: Sample(
            place=place,
            image=image_uri(images[place]),
            label=classes[int(labels[place])],
            teacher=from_teacher.get(place),
            students={method: found[place] for method, found in from_students.items()},
        )
        for place in places
    }
    groups = tuple(
        ImageGroup(choice.heading, choice.count, tuple(samples[place] for place in choice.places)) for choice in choices
    )
    return Samples(groups, len(labels), depth, tuple(notes))


def choose(teacher: Tensor | None, students: Mapping[str, Tensor], reference: str, each: int) -> list[Choice]:
    """Choose images on which networks differ, and some on which all are wrong.

    Args:
        teacher: whether it is correct, (N,) bool; None without a teacher.
        students: method label -> whether its student is correct, (N,) bool.
        reference: one of the labels. The most accurate other method is compared with it.
        each: images a group, at most; evenly spread, none in two groups.

    Returns:
        The groups that hold for any image not yet chosen.
    """
    any_correct = torch.stack(list(students.values())).any(0)
    masks: dict[str, Tensor] = {}
    others = [method for method in students if method != reference]
    if others:
        best = max(others, key=lambda method: int(students[method].sum()))
        masks[f"“{best}” is correct, “{reference}” is wrong"] = students[best] & ~students[reference]
        masks[f"“{best}” is wrong, “{reference}” is correct"] = ~students[best] & students[reference]
    if teacher is not None:
        masks["the teacher is wrong, a student is correct"] = ~teacher & any_correct
    masks["all are wrong"] = ~any_correct if teacher is None else ~(any_correct | teacher)
    taken = torch.zeros_like(any_correct)
    choices = []
    for heading, mask in masks.items():
        free = (mask & ~taken).nonzero().flatten()
        few = free[torch.linspace(0, len(free) - 1, min(each, len(free))).long()]
        taken[few] = True
        if len(few):
            choices.append(Choice(heading, int(mask.sum()), few.tolist()))
    return choices


def image_prediction(logits: Tensor, label: int, classes: Sequence[str], depth: int, cam: str) -> ImagePrediction:
    """The prediction in one network's logits (C,) for one image."""
    probabilities = logits.double().softmax(0)
    values, places = probabilities.topk(min(depth, len(classes)))
    top = tuple((classes[int(i)], round(float(p), 4)) for p, i in zip(values, places, strict=True))
    return ImagePrediction(top, int(logits.argmax()) == label, round(float(probabilities[label]), 4), cam)


def _cams(network: Network | None, places: list[int]) -> tuple[list[str], str]:
    """The overlay of each image; empty ones and the reason where there are none."""
    if network is None:
        return [""] * len(places), "no activation maps, because its network cannot be built again"
    images, labels = normalised(network.data, places)
    maps, note = activation_maps(network.model, images, labels)
    return ([""] * len(places) if maps is None else [cam_uri(each) for each in maps]), note
