"""Close classes: which classes the teacher confuses, and whether a method gains more on these than on others.

The *confusion* of two classes is the mean softmax probability (temperature 1) that the teacher gives one of them on the
validation images of the other, averaged over both directions. The *closeness* of a class is its largest confusion with
another class. A *gain* is a class's accuracy minus that of the reference, in points, paired by seed. A method helps
close classes if its gain rises with closeness. That is measured by Spearman's rank correlation over the classes, with
the gain's mean over the seeds. Its interval is a bootstrap over the classes; it holds for these seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillroom.engine.predictions import Predictions, predictions_of, teacher_predictions_of
from stillroom.report.aggregate import Pair
from stillroom.report.statistics import LEVEL
from stillroom.report.views.class_relations import confusion_mass

FEWEST = 8  # classes with images, for an analysis by closeness
BINS = 4
RESAMPLES = 2000  # of the bootstrap
SHOWN_PAIRS = 6


@dataclass(frozen=True)
class Spread:
    """A quantity over seeds.

    Attributes:
        mean: over the seeds.
        deviation: standard deviation over the seeds (with n - 1); None for one seed.
    """

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Relation:
    """How a method's gain depends on closeness.

    Attributes:
        bins: gain in points, from the quarter of the classes that are farthest apart to the closest quarter.
        correlation: Spearman's, over the classes; None where the gains or the closeness are all equal.
        low: lower end of its 95 % interval; None where there is none, as the next.
        high: upper end of it.
        p: two-sided; after :func:`related` corrected for the methods of the pair (Benjamini-Hochberg).
        seeds: in common with the reference.
    """

    bins: tuple[Spread, ...]
    correlation: float | None
    low: float | None
    high: float | None
    p: float | None
    seeds: int

    @property
    def seen(self) -> bool:
        """Whether the correlation is significant."""
        return self.p is not None and self.p < LEVEL


@dataclass(frozen=True)
class CloseGroup:
    """A group of close classes.

    Attributes:
        classes: their names.
        images: validation images of these classes.
        teacher: the teacher's accuracy on them in percent.
        accuracy: of each method in percent.
        gain: of each method but the reference, over common seeds, in points.
    """

    classes: tuple[str, ...]
    images: int
    teacher: float
    accuracy: Mapping[str, Spread]
    gain: Mapping[str, Spread]


@dataclass(frozen=True)
class CloseClasses:
    """The analysis of one pair.

    Attributes:
        classes: with validation images.
        closest: the closest pairs of classes, with their confusion.
        bounds: smallest and largest closeness of the classes of each quarter.
        accuracy: of the reference in each quarter, in percent.
        relations: of each method but the reference.
        groups: by name, those with two classes or more; empty where none are known.
        within: of each method, the fraction of the groups' images in percent that are predicted as another class of
            their group.
        outside: of each method, those that are predicted as a class outside their group.
    """

    classes: int
    closest: tuple[tuple[str, str, float], ...]
    bounds: tuple[tuple[float, float], ...]
    accuracy: tuple[Spread, ...]
    relations: Mapping[str, Relation]
    groups: Mapping[str, CloseGroup]
    within: Mapping[str, Spread]
    outside: Mapping[str, Spread]


def close_classes_of(pair: Pair, reference: str, groups: Mapping[str, Sequence[int]]) -> CloseClasses | None:
    """Analyse a pair's stored predictions; no network is run.

    Args:
        pair: of the comparison.
        reference: label of the method that the others are compared with.
        groups: by name the places of the classes of each group.

    Returns:
        None without the reference's runs, without the teacher's stored predictions, or with fewer than 8 classes.
    """
    teacher = next((one for cell in pair.cells if (one := teacher_predictions_of(cell.run)) is not None), None)
    if teacher is None or not pair.runs(reference) or bool((teacher.labels < 0).any()):
        return None
    students = {method: {cell.seed: predictions_of(cell.run) for cell in pair.runs(method)} for method in pair.methods}
    names = [str(name) for name in pair.cells[0].run.config()["classes"]]
    return analyse(teacher, students, reference, names, groups)


def analyse(
    teacher: Predictions,
    students: Mapping[str, Mapping[int, Predictions]],
    reference: str,
    names: Sequence[str],
    groups: Mapping[str, Sequence[int]],
) -> CloseClasses | None:
    """Relate each method's gains to closeness, and divide its errors by groups.

    Args:
        teacher: its predictions on the validation images.
        students: method label -> seed -> predictions on the same images, in the same order.
        reference: a label of ``students``.
        names: of the C classes.
        groups: by name the places of the classes of each group.
    """
    known = torch.bincount(teacher.labels, minlength=len(names)).nonzero().flatten()
    if len(known) < FEWEST:
        return None
    confusion = class_confusion(teacher)
    closeness = confusion.max(1).values[known].numpy()
    order = np.argsort(closeness, kind="stable")
    quarters = np.array_split(order, BINS)
    per_class = {
        method: {seed: class_accuracy(given)[known].numpy() for seed, given in runs.items()}
        for method, runs in students.items()
    }
    theirs = per_class[reference]
    gains = {method: _paired(runs, theirs) for method, runs in per_class.items() if method != reference}
    gains = {method: each for method, each in gains.items() if each}
    errors = {
        method: [group_errors(given, groups) for given in runs.values()] for method, runs in students.items()
    } if groups else {}  # fmt: skip
    return CloseClasses(
        classes=len(known),
        closest=closest_pairs(confusion, names),
        bounds=tuple((float(closeness[part].min()), float(closeness[part].max())) for part in quarters),
        accuracy=tuple(_spread([own[part].mean() for own in theirs.values()]) for part in quarters),
        relations=related(gains, closeness, quarters),
        groups={name: _group(teacher, students, reference, names, places) for name, places in groups.items()},
        within={method: _spread([one for one, _ in found]) for method, found in errors.items()},
        outside={method: _spread([one for _, one in found]) for method, found in errors.items()},
    )


def class_confusion(teacher: Predictions) -> Tensor:
    """The confusion of every pair of classes, (C, C) float64, symmetric, diagonal 0; 0 for a class without images."""
    classes = teacher.logits.shape[1]
    mass = confusion_mass(teacher.labels, teacher.logits, {}, classes) * 2  # there the teacher is half of the mean
    has = torch.bincount(teacher.labels, minlength=classes).clamp_max(1)
    return ((mass + mass.T) / 2 * has[:, None] * has).fill_diagonal_(0)


def closest_pairs(confusion: Tensor, names: Sequence[str]) -> tuple[tuple[str, str, float], ...]:
    """The pairs of classes with the largest confusion, the largest first."""
    upper = confusion.triu(1).flatten()
    places = upper.argsort(descending=True, stable=True)[:SHOWN_PAIRS].tolist()
    pairs = (divmod(place, len(names)) for place in places)
    return tuple((names[one], names[other], float(confusion[one, other])) for one, other in pairs)


def class_accuracy(given: Predictions) -> Tensor:
    """The accuracy of each class in percent, (C,) float64; 0 for a class without images."""
    classes = given.logits.shape[1]
    correct = torch.bincount(given.labels, weights=given.correct.double(), minlength=classes)
    return 100 * correct / torch.bincount(given.labels, minlength=classes).clamp_min(1)


def group_errors(given: Predictions, groups: Mapping[str, Sequence[int]]) -> tuple[float, float]:
    """The errors on the images of all groups, in percent of these images: within their group, and outside of it.

    Args:
        given: predictions on the validation images.
        groups: by name the places of the classes of each group; an image of a class in two groups counts in both.
    """
    predicted, images, within, outside = given.logits.argmax(1), 0, 0, 0
    for places in groups.values():
        members = torch.tensor(list(places))
        of_group = torch.isin(given.labels, members)
        wrong = of_group & ~given.correct
        inside = wrong & torch.isin(predicted, members)
        images, within = images + int(of_group.sum()), within + int(inside.sum())
        outside += int((wrong & ~inside).sum())
    return 100 * within / max(images, 1), 100 * outside / max(images, 1)


def related(
    gains: Mapping[str, Sequence[NDArray[Any]]], closeness: NDArray[Any], quarters: Sequence[NDArray[Any]]
) -> dict[str, Relation]:
    """Relate the gains of several methods to closeness, with p corrected for their number.

    Args:
        gains: method label -> for each seed the gain of each class, (K,).
        closeness: of each class, (K,).
        quarters: the places of the classes in each bin.
    """
    from scipy import stats

    found = {method: _relation(each, closeness, quarters) for method, each in gains.items()}
    tested = [method for method, one in found.items() if one.p is not None]
    corrected = stats.false_discovery_control([found[method].p for method in tested]) if tested else []
    return found | {m: replace(found[m], p=float(p)) for m, p in zip(tested, corrected, strict=True)}


def _relation(gains: Sequence[NDArray[Any]], closeness: NDArray[Any], quarters: Sequence[NDArray[Any]]) -> Relation:
    from scipy import stats

    bins = tuple(_spread([float(own[part].mean()) for own in gains]) for part in quarters)
    mean = np.mean(gains, axis=0).round(9)  # equal gains have equal ranks
    if np.ptp(mean) == 0 or np.ptp(closeness) == 0:
        return Relation(bins, None, None, None, None, len(gains))
    test = stats.spearmanr(closeness, mean)
    interval = stats.bootstrap(
        (closeness, mean), _rank_correlation, paired=True, vectorized=True, n_resamples=RESAMPLES, method="percentile",
        rng=0,
    ).confidence_interval  # fmt: skip
    low, high = float(interval.low), float(interval.high)
    return Relation(bins, float(test.statistic), low, high, float(test.pvalue), len(gains))


def _rank_correlation(one: NDArray[Any], other: NDArray[Any], axis: int = -1) -> NDArray[Any]:
    """Spearman's rank correlation along an axis; 0 where one side has no spread."""
    from scipy import stats

    sides = [stats.rankdata(side, axis=axis) for side in (one, other)]
    left, right = (side - side.mean(axis=axis, keepdims=True) for side in sides)
    scale = np.sqrt((left**2).sum(axis=axis) * (right**2).sum(axis=axis))
    product = np.asarray((left * right).sum(axis=axis))
    np.divide(product, scale, out=product, where=scale > 0)  # without spread the product is 0
    return product


def _paired(ours: Mapping[int, Any], theirs: Mapping[int, Any]) -> list[Any]:
    """The differences at the common seeds."""
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def _spread(values: Sequence[float]) -> Spread:
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None)


def _group(
    teacher: Predictions,
    students: Mapping[str, Mapping[int, Predictions]],
    reference: str,
    names: Sequence[str],
    places: Sequence[int],
) -> CloseGroup:
    """The accuracy of every network on the images of one group."""
    rows = torch.isin(teacher.labels, torch.tensor(list(places)))

    def accuracy(given: Predictions) -> float:
        return 100 * float(given.correct[rows].double().mean()) if bool(rows.any()) else 0.0

    scores = {method: {seed: accuracy(given) for seed, given in runs.items()} for method, runs in students.items()}
    gains = {method: _paired(own, scores[reference]) for method, own in scores.items() if method != reference}
    return CloseGroup(
        classes=tuple(names[place] for place in places),
        images=int(rows.sum()),
        teacher=accuracy(teacher),
        accuracy={method: _spread([*own.values()]) for method, own in scores.items()},
        gain={method: _spread(found) for method, found in gains.items() if found},
    )
