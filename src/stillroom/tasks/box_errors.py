"""Error kinds of a detector, as in TIDE: why its detections are wrong, and what each kind costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stillroom.boxes import Detections, ImageBoxes

FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU from which a box is found, and up to which it is background
KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
_CORRECT, _IGNORED = len(KINDS), len(KINDS) + 1
_RECALLS = np.linspace(0, 1, 101)

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class BoxErrors:
    """What a detector does wrong on a set of images.

    Attributes:
        counts: the number of errors of each of :data:`KINDS`.
        gains: by how much AP50 would rise if all errors of a kind were fixed, in percent; dAP in the paper. The gains
            do not add up to what is missing to 100 %.
        ap50: average precision at IoU threshold 0.5, in percent.
    """

    counts: dict[str, int]
    gains: dict[str, float]
    ap50: float


def box_errors(objects: Sequence[ImageBoxes], found: Sequence[Detections]) -> BoxErrors:
    """Sort a detector's errors by kind.

    Detections are matched with objects as for average precision at IoU 0.5. One without a match is an error:

    - localisation: of the correct class, with an IoU in [0.1, 0.5);
    - classification: of another class, with an IoU of 0.5 or more;
    - duplicate: of the correct class, with an IoU of 0.5 or more, and the object has a match with a higher score;
    - background: an IoU of 0.1 or less with every object;
    - both: of another class, with an IoU in (0.1, 0.5);
    - missed: an object without a match that no error of the first two kinds is about.

    Where two kinds fit, the first of this order is taken; the paper gives no order, this is that of the authors'
    program. A fixed classification or localisation error is a correct detection of its object; of several for one
    object only that with the highest score is, and none where the object has a match. Other fixed errors are
    removed: the detection, or the object. A class of which no object is left has 100 % where it has no detection
    either, else 0 %; the paper does not say. Two differences from the authors' program: a detection in a box with
    ``crowd`` is no error, and errors of different kinds about one object do not compete for it, since only one kind
    is fixed at a time.

    Args:
        objects: the annotated objects of N images, in pixels.
        found: the detections in the same images, in the same pixels.

    Raises:
        ValueError: the numbers of images differ, or no image has an object.

    Source: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, section 2.2.
    """
    if len(objects) != len(found):
        raise ValueError(f"found has {len(found)} images, objects has {len(objects)}; give the same images")
    if all(bool(image.crowd.all()) for image in objects):
        raise ValueError(f"objects has {len(objects)} images without an object to find; give images that have some")
    rows = _rows(objects, found)
    base = _ap50(rows.labels, rows.kinds == _CORRECT, rows.kinds != _IGNORED, rows.objects)
    counts = {kind: int((rows.kinds == number).sum()) for number, kind in enumerate(KINDS[:-1])}
    counts["missed"] = int(sum(rows.missed.values()))
    # Below 0 only where fewer objects move the recalls past the 101 points.
    gains = {kind: max(0.0, _fixed(rows, number) - base) for number, kind in enumerate(KINDS)}
    return BoxErrors(counts, gains, base)


def judge_image(image: ImageBoxes, seen: Detections) -> tuple[list[str], list[bool]]:
    """Judge the detections in one image, as :func:`box_errors` does.

    Args:
        image: its annotated objects.
        seen: the detections, in the same pixels.

    Returns:
        For each detection "correct", its kind of error, or "ignored" in a crowd; and for each object whether it is
        found, true for a crowd.
    """
    kinds, _, matched = _sort_image(image, seen)
    found = torch.ones(len(image), dtype=torch.bool)
    found[~image.crowd] = torch.from_numpy(matched)
    return [(*KINDS, "correct", "ignored")[kind] for kind in kinds.tolist()], found.tolist()


@dataclass(frozen=True)
class _Rows:
    """All detections of a set, highest score first, and its objects.

    Attributes:
        labels: the classes of the detections, (M,).
        kinds: number of the error's kind, (M,); or correct, or ignored.
        targets: the object that a classification or localisation error is about, (M,), else -1.
        fixable: whether it is the one to be corrected for its object, (M,).
        object_labels: the classes of the objects, by their number.
        objects: class -> objects without crowds.
        missed: class -> missed objects.
    """

    labels: Array
    kinds: Array
    targets: Array
    fixable: Array
    object_labels: Array
    objects: dict[int, int]
    missed: dict[int, int]


def _rows(objects: Sequence[ImageBoxes], found: Sequence[Detections]) -> _Rows:
    parts = [_sort_image(image, seen) for image, seen in zip(objects, found, strict=True)]
    kinds, targets, matched = (np.concatenate(column) for column in zip(*parts, strict=True))
    first = np.cumsum([0, *(len(part[2]) for part in parts[:-1])])  # number of each image's first object
    targets[targets >= 0] += np.repeat(first, [len(seen) for seen in found])[targets >= 0]
    object_labels = np.concatenate([image.labels[~image.crowd].numpy() for image in objects])
    scores = np.concatenate([seen.scores.numpy() for seen in found])
    order = np.argsort(-scores, kind="stable")
    kinds, targets = kinds[order], targets[order]
    missed = ~matched
    missed[targets[targets >= 0]] = False
    fixable = np.zeros(len(order), dtype=bool)
    for kind in (KINDS.index("classification"), KINDS.index("localisation")):  # each is fixed alone
        about = np.flatnonzero(kinds == kind)
        about = about[~matched[targets[about]]]
        fixable[about[np.unique(targets[about], return_index=True)[1]]] = True  # the first: the highest score
    labels = np.concatenate([seen.labels.numpy() for seen in found])[order]
    every, lost = _numbers(object_labels), _numbers(object_labels[missed])
    return _Rows(labels, kinds, targets, fixable, object_labels, every, lost)


def _sort_image(image: ImageBoxes, seen: Detections) -> tuple[Array, Array, Array]:
    """The kinds (m,) and targets (m,) of an image's detections, and whether its objects without crowds have a match."""
    from torchvision.ops import box_iou  # slow, and the page of classifiers imports this module, too

    real = ~image.crowd
    kinds, targets = np.full(len(seen), KINDS.index("background")), np.full(len(seen), -1)
    overlap = box_iou(seen.boxes.double(), image.boxes[real].double()).numpy()
    alike = (seen.labels[:, None] == image.labels[real]).numpy()
    correct, matched = _match(np.where(alike, overlap, 0))
    if overlap.size:
        own, other = np.where(alike, overlap, 0), np.where(alike, 0, overlap)
        kinds[overlap.max(1) > BACKGROUND] = KINDS.index("both")
        kinds[own.max(1) >= FOREGROUND] = KINDS.index("duplicate")
        for kind, values, fits in (
            ("classification", other, other.max(1) >= FOREGROUND),
            ("localisation", own, (own.max(1) >= BACKGROUND) & (own.max(1) < FOREGROUND)),
        ):
            kinds[fits], targets[fits] = KINDS.index(kind), values.argmax(1)[fits]
    skipped = _in_crowd(image, seen) & ~correct
    kinds[correct], kinds[skipped] = _CORRECT, _IGNORED
    targets[correct | skipped] = -1
    return kinds, targets, matched


def _match(overlap: Array) -> tuple[Array, Array]:
    """Match detections, highest score first, with the object of the largest IoU that has none yet."""
    correct, matched = np.zeros(overlap.shape[0], dtype=bool), np.zeros(overlap.shape[1], dtype=bool)
    if overlap.size:
        for place in np.flatnonzero(overlap.max(1) >= FOREGROUND):
            free = np.where(matched, 0, overlap[place])
            best = free.argmax()
            if free[best] >= FOREGROUND:
                correct[place] = matched[best] = True
    return correct, matched


def _in_crowd(image: ImageBoxes, seen: Detections) -> Array:
    """Whether half of a detection, or more, lies in a crowd of its class, (m,)."""
    crowds, boxes = image.boxes[image.crowd], seen.boxes
    sides = torch.minimum(boxes[:, None, 2:], crowds[:, 2:]) - torch.maximum(boxes[:, None, :2], crowds[:, :2])
    inside = sides.clamp(min=0).prod(-1) / (boxes[:, 2:] - boxes[:, :2]).prod(-1)[:, None]
    alike = seen.labels[:, None] == image.labels[image.crowd]
    found: Array = ((inside >= FOREGROUND) & alike).any(1).numpy()
    return found


def _fixed(rows: _Rows, kind: int) -> float:
    """AP50 with all errors of a kind fixed."""
    labels, counted, correct = rows.labels.copy(), rows.kinds != _IGNORED, rows.kinds == _CORRECT
    left = dict(rows.objects)
    if KINDS[kind] == "missed":
        left = {label: number - rows.missed.get(label, 0) for label, number in left.items()}
    else:
        these = rows.kinds == kind
        repaired = these & rows.fixable
        labels[repaired] = rows.object_labels[rows.targets[repaired]]
        correct = correct | repaired
        counted = counted & (~these | repaired)
    return _ap50(labels, correct, counted, left)


def _ap50(labels: Array, correct: Array, counted: Array, objects: dict[int, int]) -> float:
    """Mean over the classes with objects of the precision at 101 recalls, in percent; rows by descending score."""
    return float(
        np.mean([_class_ap(correct[counted & (labels == label)], number) for label, number in objects.items()])
    )


def _class_ap(correct: Array, objects: int) -> float:
    if objects == 0:
        return 0.0 if len(correct) else 100.0
    hits = np.cumsum(correct)
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(hits / objects, _RECALLS, side="left")
    return 100 * float(np.append(precision, 0.0)[places].mean())


def _numbers(labels: Array) -> dict[int, int]:
    """How often each class occurs."""
    return dict(zip(*(each.tolist() for each in np.unique(labels, return_counts=True)), strict=True))
