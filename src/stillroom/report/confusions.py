"""Confusions: which classes are predicted as which other ones, and how that differs from a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stillroom.engine.predictions import Predictions, predictions_of
from stillroom.report.aggregate import Pair


@dataclass(frozen=True)
class Change:
    """One confusion under the reference and under another method.

    Attributes:
        label: the true class.
        named: the predicted class.
        before: images under the reference, mean over the common seeds.
        after: images under the method.
    """

    label: str
    named: str
    before: float
    after: float


@dataclass(frozen=True)
class Changes:
    """What a method changed most.

    Attributes:
        fell: confusions that became rarer, the largest change first.
        rose: confusions that became more frequent, the largest change first.
    """

    fell: tuple[Change, ...]
    rose: tuple[Change, ...]


def confusion_changes(pair: Pair, reference: str, each: int = 6) -> dict[str, Changes]:
    """The changes of every method that shares a seed with the reference, by its label.

    Args:
        pair: of the comparison.
        reference: label of the method that the others are compared with.
        each: confusions to name, at most, either way.
    """
    classes = [str(name) for name in pair.cells[0].run.config()["classes"]]
    theirs = {cell.seed: confusions(predictions_of(cell.run)) for cell in pair.runs(reference)}
    found = {}
    for method in pair.methods:
        cells = [cell for cell in pair.runs(method) if cell.seed in theirs]
        if method != reference and cells:
            ours = {cell.seed: confusions(predictions_of(cell.run)) for cell in cells}
            found[method] = largest_changes(ours, theirs, classes, each)
    return found


def confusions(given: Predictions) -> Tensor:
    """How many images of each class (row) are predicted as each other class (column), (C, C) int64, diagonal 0."""
    classes = given.logits.shape[1]
    places = given.labels * classes + given.logits.argmax(1)
    return torch.bincount(places, minlength=classes**2).reshape(classes, classes).fill_diagonal_(0)


def largest_changes(
    ours: Mapping[int, Tensor], reference: Mapping[int, Tensor], classes: Sequence[str], each: int
) -> Changes:
    """Name the confusions that changed most, over the seeds of ``ours``.

    Args:
        ours: (C, C) counts by seed.
        reference: the same of the reference, at least for these seeds.
        classes: C names.
        each: how many, at most, either way.
    """
    after = torch.stack([ours[seed] for seed in ours]).double().mean(0)
    before = torch.stack([reference[seed] for seed in ours]).double().mean(0)
    change = (after - before).flatten()

    def named(order: Tensor) -> tuple[Change, ...]:
        cells = (divmod(place, len(classes)) for place in order[:each].tolist())
        return tuple(Change(classes[i], classes[j], float(before[i, j]), float(after[i, j])) for i, j in cells)

    fell, rose = change.argsort(stable=True), change.argsort(descending=True, stable=True)
    return Changes(named(fell[: int((change < 0).sum())]), named(rose[: int((change > 0).sum())]))
