"""How far a student's classes correlate as its teacher's do: the difference of two class-correlation matrices.

Over the validation images, every class's logit is one series of numbers. The correlations of these series with each
other (C x C) say which classes a network sees as alike; the absolute difference of the teacher's and a student's matrix
says where the student did not take that over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stillroom.report.aggregate import Pair
from stillroom.report.views.data_uris import heat_uri, scale_uri
from stillroom.report.views.view_models import StudentLogits, classes_of, teacher_logits

MOST_PIXELS = 128  # a side; beyond, neighbouring classes share one
TOP_OF_SCALE = 0.99  # quantile: a few extreme entries must not darken everything else
NAMED_PAIRS = 3


@dataclass(frozen=True)
class ClassPair:
    """Two classes whose correlation differs.

    Attributes:
        classes: their names.
        teacher: correlation of their logits in the teacher, in [-1, 1].
        student: the same in the student.
    """

    classes: tuple[str, str]
    teacher: float
    student: float


@dataclass(frozen=True)
class MethodAlignment:
    """One method's heat map.

    Attributes:
        method: its label.
        mean: of the absolute difference over all pairs of different classes, in [0, 2].
        image: PNG data URI, one pixel a class or a group of classes each way; draw it without smoothing.
        largest: the pairs of classes that differ most.
        text: the same in words.
    """

    method: str
    mean: float
    image: str
    largest: tuple[ClassPair, ...]
    text: str


@dataclass(frozen=True)
class Alignment:
    """All methods' heat maps on one colour scale.

    Attributes:
        methods: in the pair's order.
        high: where the colour scale ends; it begins at 0. One in a hundred entries may be above and has the last
            colour.
        scale: PNG data URI of the colour scale, 0 at the left, growing evenly to ``high`` at the right.
        classes: how many there are.
        group: how many neighbouring classes share a pixel, each way; the pixel is the mean over their entries.
    """

    methods: tuple[MethodAlignment, ...]
    high: float
    scale: str
    classes: int
    group: int


def alignment_of(pair: Pair) -> Alignment | None:
    """Compare the class correlations of a pair's students with their teacher's; None without a teacher."""
    teacher = teacher_logits(pair)
    return None if teacher is None else align(teacher, StudentLogits(pair), classes_of(pair))


def align(teacher: Tensor, students: Mapping[str, Tensor], classes: Sequence[str]) -> Alignment:
    """Compare the class correlations of students with their teacher's.

    Args:
        teacher: logits (N, C) on the validation images.
        students: method label -> logits (N, C) on the same images.
        classes: C names.
    """
    expected = class_correlation(teacher)
    group = -(-len(classes) // MOST_PIXELS)
    found = {}
    for method, logits in students.items():
        correlation = class_correlation(logits)
        difference = (correlation - expected).abs()
        found[method] = (_mean_off_diagonal(difference), _grouped(difference, group), correlation)
    drawn = [image for _, image, _ in found.values()]
    high = max((float(image.quantile(TOP_OF_SCALE)) for image in drawn), default=0.0)
    return Alignment(
        methods=tuple(
            _described(method, mean, heat_uri(image, high), _largest(expected, correlation, classes))
            for method, (mean, image, correlation) in found.items()
        ),
        high=round(high, 4),
        scale=scale_uri(),
        classes=len(classes),
        group=group,
    )


def class_correlation(logits: Tensor) -> Tensor:
    """The correlation of every class's logit with every other's over the images.

    Args:
        logits: (N, C).

    Returns:
        (C, C) float64 in [-1, 1], 1 on the diagonal; 0 beside it for a class whose logit never changes.
    """
    if len(logits) < 2:
        return torch.eye(logits.shape[1], dtype=torch.float64)
    correlation = torch.corrcoef(logits.double().T).nan_to_num(0.0)
    return correlation.fill_diagonal_(1.0)


def _mean_off_diagonal(matrix: Tensor) -> float:
    """The mean over pairs of different classes; the diagonal is 0 whatever the networks do."""
    return float(matrix.sum() / (matrix.numel() - len(matrix)))


def _grouped(matrix: Tensor, size: int) -> Tensor:
    """Means over blocks of size x size entries; the last blocks may hold fewer."""
    missing = -len(matrix) % size
    padded = F.pad(matrix, (0, missing, 0, missing), value=float("nan"))
    blocks = len(padded) // size
    return padded.reshape(blocks, size, blocks, size).nanmean((1, 3))


def _largest(teacher: Tensor, student: Tensor, classes: Sequence[str]) -> tuple[ClassPair, ...]:
    rows, columns = torch.triu_indices(len(classes), len(classes), offset=1)
    gaps = (student - teacher).abs()[rows, columns]
    order = gaps.argsort(descending=True, stable=True)[:NAMED_PAIRS].tolist()
    places = [(int(rows[k]), int(columns[k])) for k in order]
    return tuple(
        ClassPair((classes[i], classes[j]), round(float(teacher[i, j]), 3), round(float(student[i, j]), 3))
        for i, j in places
    )


def _described(method: str, mean: float, image: str, largest: tuple[ClassPair, ...]) -> MethodAlignment:
    pairs = "; ".join(
        f"{pair.classes[0]} and {pair.classes[1]} (teacher {pair.teacher:.2f}, student {pair.student:.2f})"
        for pair in largest
    )
    text = f"{method}: class correlations differ from the teacher's by {mean:.3f} on average, most for {pairs}."
    return MethodAlignment(method, round(mean, 4), image, largest, text)
