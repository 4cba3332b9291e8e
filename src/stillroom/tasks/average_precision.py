"""Average precision of detections, as COCO defines it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from torch import Tensor

from stillroom.boxes import Detections, ImageBoxes
from stillroom.errors import InputError
from stillroom.extras import require

MOST = 100  # detections of a class in an image that are evaluated; those with the highest scores


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision over a set of images, in percent; more is better.

    Attributes:
        ap: mean over the classes and over the IoU thresholds 0.5, 0.55, ..., 0.95.
        ap50: mean over the classes at IoU threshold 0.5.
        ap75: at 0.75.
        ap_small: of objects up to 32 x 32 pixels; None where there is no such object, as for the next two.
        ap_medium: of objects from 32 x 32 to 96 x 96 pixels.
        ap_large: of larger objects.
        per_class: as ``ap``, for each class in their order; None for a class without objects.
        count: number of images.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    per_class: tuple[float | None, ...]
    count: int

    def numbers(self, prefix: str = "") -> dict[str, float]:
        """The means over the classes by their names in records; without those of sizes that no object has.

        Args:
            prefix: of the names, ``val_`` in the row of an epoch.
        """
        names = [field.name for field in fields(self) if field.name not in ("per_class", "count")]
        values = {name: getattr(self, name) for name in names}
        return {f"{prefix}{name}": value for name, value in values.items() if value is not None}


def average_precision(objects: Sequence[ImageBoxes], found: Sequence[Detections], classes: int) -> AveragePrecision:
    """Evaluate the detections of a set of images.

    The definition is COCO's: precision is interpolated at 101 recalls, at most 100 detections of a class in an image
    are taken, and a detection in a box with ``crowd`` counts neither as correct nor as wrong. An object's size is the
    area of its box in pixels. (COCO's published numbers by size take the area of its outline, which is smaller.)

    Args:
        objects: the annotated objects of N images, in pixels of the original images.
        found: the detections in the same images, in the same pixels.
        classes: number of classes without background.

    Raises:
        InputError: an optional package is missing, or no image has an object.
        ValueError: the numbers of images differ, or a label is not in [0, classes).

    Source: the evaluation of COCO (Lin et al., ECCV 2014), computed by ``faster-coco-eval``.
    """
    require("average precision", "detection")
    _check(objects, found, classes)
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(_as_coco(objects, classes))
    judge = COCOeval_faster(truth, truth.loadRes(_results(found)), "bbox", print_function=_ignore)
    judge.params.maxDets = [MOST]
    judge.evaluate()
    judge.accumulate()
    # (thresholds, recalls, classes, sizes), -1 where there is no object; sizes: all, small, medium, large
    precision = np.asarray(judge.eval["precision"])[..., -1]
    ap = _mean(precision[..., 0])
    ap50, ap75 = _mean(precision[0, ..., 0]), _mean(precision[5, ..., 0])
    assert ap is not None
    assert ap50 is not None
    assert ap75 is not None
    small, medium, large = (_mean(precision[..., size]) for size in (1, 2, 3))
    per_class = tuple(_mean(precision[:, :, label, 0]) for label in range(classes))
    return AveragePrecision(ap, ap50, ap75, small, medium, large, per_class, len(objects))


def _check(objects: Sequence[ImageBoxes], found: Sequence[Detections], classes: int) -> None:
    if len(objects) != len(found):
        raise ValueError(f"found has {len(found)} images, objects has {len(objects)}; give the same images")
    for name, images in (("objects", objects), ("found", found)):
        for image in images:
            if len(image) and not 0 <= int(image.labels.min()) <= int(image.labels.max()) < classes:
                raise ValueError(
                    f"{name} has labels from {int(image.labels.min())} to {int(image.labels.max())}; the {classes} "
                    f"classes are 0 to {classes - 1}, without background"
                )
    if all(bool(image.crowd.all()) for image in objects):
        raise InputError(f"none of {len(objects)} images has an object to find; average precision requires one")


def _as_coco(objects: Sequence[ImageBoxes], classes: int) -> dict[str, Any]:
    """The annotations in COCO's form. Numbers count from 1: the evaluation marks what has no match with 0."""
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(objects, 1):
        crowd = image.crowd.tolist()
        for box, label, group in zip(_corner_and_sides(image.boxes), image.labels.tolist(), crowd, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(group),
                }
            )
    sizes = [image.size for image in objects]
    return {
        "images": [{"id": number, "height": height, "width": width} for number, (height, width) in enumerate(sizes, 1)],
        "categories": [{"id": label + 1, "name": str(label)} for label in range(classes)],
        "annotations": annotations,
    }


def _results(found: Sequence[Detections]) -> list[dict[str, Any]]:
    """The detections in the form of COCO's result files."""
    return [
        {"image_id": number, "category_id": label + 1, "bbox": box, "score": score}
        for number, image in enumerate(found, 1)
        for box, label, score in zip(
            _corner_and_sides(image.boxes), image.labels.tolist(), image.scores.tolist(), strict=True
        )
    ]


def _corner_and_sides(boxes: Tensor) -> list[list[float]]:
    """Left, top, right, bottom -> left, top, width, height."""
    edges = boxes.detach().cpu().double()
    edges[:, 2:] -= edges[:, :2]
    values: list[list[float]] = edges.tolist()
    return values


def _mean(precision: np.ndarray[Any, Any]) -> float | None:
    """The mean in percent of the precisions that exist."""
    there = precision[precision > -1]
    return 100 * float(there.mean()) if there.size else None


def _ignore(*_: object) -> None:
    """Print nothing."""
