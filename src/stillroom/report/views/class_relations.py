"""Relations of confusable classes in each network: the data of the relation explorer.

All numbers are means over the validation images of one class c, at the end of training.

- The *confusion* of c with j is the mean softmax probability (temperature 1) of j: half of it is the teacher's, half
  the mean over the methods' students. The partners of c are the classes with the largest confusion.
- The *two-way probability* of c against j is p_c / (p_c + p_j) = sigmoid((z_c - z_j) / T), averaged over the images,
  where T is the temperature of the first LDRLD among the methods, else LDRLD's default; one T for all networks.
- The *weight* of (c, j) under a method is the mean of LDRLD's Omega(rank of c, rank of j) over the images where both
  are among the student's d largest logits, and *among* is the fraction of such images. A method with an LDRLD uses its
  own settings, any other the published ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stillroom.report.aggregate import Pair
from stillroom.report.views.ranking import Ranking, rankings_of, shown_ranking
from stillroom.report.views.view_models import StudentLogits, classes_of, labels_of, teacher_logits

MOST_CLASSES = 200
PARTNERS = 8

_Rows = list[list[float | None]]


def relations_of(pair: Pair) -> dict[str, Any]:
    """Relate the classes of a pair's data; see :func:`relate`."""
    return relate(labels_of(pair), classes_of(pair), teacher_logits(pair), StudentLogits(pair), rankings_of(pair))


def relate(
    labels: Tensor,
    classes: Sequence[str],
    teacher: Tensor | None,
    students: Mapping[str, Tensor],
    rankings: Mapping[str, Ranking],
) -> dict[str, Any]:
    """Relate every class to its most confused partners, in every network.

    Args:
        labels: (N,) of the validation images.
        classes: C names.
        teacher: logits (N, C); None where there is no teacher.
        students: method label -> logits (N, C), one or more.
        rankings: method label -> the LDRLD that weights its pairs.

    Returns:
        Plain lists and numbers, ready for JSON. S classes are shown, in the classes' order: all that have an image, or
        the 200 most confused of them. P = min(8, C - 1) partners stand in falling order of confusion.

        - ``classes``: C names; everything else names classes by their place here.
        - ``shown``: S places; ``images``: S counts; ``confused``: S fractions of probability on other classes.
        - ``partners``: S x P places; ``confusion``: S x P.
        - ``temperature``: T of the two-way probabilities.
        - ``methods``: M labels; ``depths``: M; ``own``: M, whether the method trained with that LDRLD.
        - ``teacher``: S x P two-way probabilities, or None; ``students``: M x S x P.
        - ``weights``: M x S x P, None where the pair never was among the top d; ``among``: M x S x P.
    """
    mass = confusion_mass(labels, teacher, students, len(classes))
    entries = _entries(labels, mass)
    temperature = shown_ranking(rankings).temperature
    found = [_seen_by(logits, entries, rankings[method], temperature) for method, logits in students.items()]
    return {
        "classes": list(classes),
        "shown": [entry.place for entry in entries],
        "images": [len(entry.rows) for entry in entries],
        "confused": [_short(1 - float(mass[entry.place, entry.place])) for entry in entries],
        "partners": [entry.partners.tolist() for entry in entries],
        "confusion": [_plain(mass[entry.place, entry.partners]) for entry in entries],
        "temperature": temperature,
        "methods": list(students),
        "depths": [rankings[method].depth for method in students],
        "own": [rankings[method].own for method in students],
        "teacher": None if teacher is None else _two_way(teacher, entries, temperature),
        "students": [two_way for two_way, _, _ in found],
        "weights": [weights for _, weights, _ in found],
        "among": [among for _, _, among in found],
    }


def confusion_mass(labels: Tensor, teacher: Tensor | None, students: Mapping[str, Tensor], classes: int) -> Tensor:
    """The mean probability that the images of each class give to each class.

    Args:
        labels: (N,).
        teacher: logits (N, C), half of the mean; None leaves it to the students.
        students: method label -> logits (N, C), together the other half.
        classes: C.

    Returns:
        (C, C) float64, row c for the images of class c; rows sum to 1, those of classes without images to 0.
    """
    mass = torch.zeros(classes, classes, dtype=torch.float64)
    for logits in students.values():
        mass += _mass(logits, labels, classes) / len(students)
    return mass if teacher is None else (mass + _mass(teacher, labels, classes)) / 2


def two_way_probability(logits: Tensor, place: int, partners: Tensor, temperature: float) -> Tensor:
    """The mean over images of p_c / (p_c + p_j), the softmax over two classes alone.

    Args:
        logits: (n, C) of the images to average over, n >= 1.
        place: c.
        partners: (P,), the classes j.
        temperature: T, above 0.

    Returns:
        (P,) float64 in [0, 1].
    """
    wide = logits.double()
    return torch.sigmoid((wide[:, place, None] - wide[:, partners]) / temperature).mean(0)


def pair_weights(logits: Tensor, place: int, partners: Tensor, ranking: Ranking) -> tuple[Tensor, Tensor]:
    """The weight that pairs (c, j) get in LDRLD, and how often they get one.

    Args:
        logits: (n, C) of a student on the images to average over, n >= 1.
        place: c.
        partners: (P,), the classes j.
        ranking: the LDRLD.

    Returns:
        Two float64 tensors (P,): the mean weight over the images where both are among the student's top d, NaN where
        there is none, and the fraction of such images, in [0, 1].
    """
    top = logits.topk(ranking.depth, dim=1).indices
    ranks = torch.full(logits.shape, -1).scatter_(1, top, torch.arange(ranking.depth).expand_as(top))
    own, others = ranks[:, place, None], ranks[:, partners]
    both = (own >= 0) & (others >= 0)
    weights = torch.where(both, ranking.weights[own, others], 0.0)
    return weights.sum(0) / both.sum(0), both.double().mean(0)


class _Entry(NamedTuple):
    """A class that is shown: its place, the rows of its images, and its partners (P,)."""

    place: int
    rows: Tensor
    partners: Tensor


def _entries(labels: Tensor, mass: Tensor) -> list[_Entry]:
    """The most confused classes that have images, in the classes' order, with their partners."""
    images = torch.bincount(labels, minlength=len(mass))
    confused = torch.where(images > 0, 1 - mass.diagonal(), -1.0)
    most = confused.argsort(descending=True, stable=True)[: min(MOST_CLASSES, int((images > 0).sum()))]
    entries = []
    for place in most.sort().values.tolist():
        others = mass[place].clone()
        others[place] = -1.0
        partners = others.argsort(descending=True, stable=True)[: min(PARTNERS, len(mass) - 1)]
        entries.append(_Entry(place, (labels == place).nonzero().flatten(), partners))
    return entries


def _two_way(logits: Tensor, entries: Sequence[_Entry], temperature: float) -> _Rows:
    return [_plain(two_way_probability(logits[rows], c, others, temperature)) for c, rows, others in entries]


def _seen_by(logits: Tensor, entries: Sequence[_Entry], ranking: Ranking, temperature: float) -> tuple[_Rows, ...]:
    """One student's two-way probabilities, weights and fractions, a row an entry."""
    pairs = [pair_weights(logits[rows], c, others, ranking) for c, rows, others in entries]
    weights, among = ([_plain(pair[part]) for pair in pairs] for part in (0, 1))
    return _two_way(logits, entries, temperature), weights, among


def _mass(logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The mean softmax over the images of each class, (C, C); zeros for a class without any."""
    sums = torch.zeros(classes, classes, dtype=torch.float64)
    sums.index_add_(0, labels, logits.softmax(1).double())
    return sums / torch.bincount(labels, minlength=classes).clamp_min(1)[:, None]


def _plain(values: Tensor) -> list[float | None]:
    """Numbers for JSON, which knows no NaN."""
    return [None if math.isnan(value) else _short(value) for value in values.tolist()]


def _short(value: float) -> float:
    return round(value, 4)
