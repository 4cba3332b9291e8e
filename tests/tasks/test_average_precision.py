"""Average precision, against pycocotools and cases counted by hand."""

from __future__ import annotations

import contextlib
import io

import pytest
import torch

from stillroom.errors import InputError
from stillroom.tasks.average_precision import average_precision
from tests.tasks.boxes_of import SIDE, draw_images, found_of, objects_of


def by_pycocotools(objects, found, classes):
    """AP, at 0.5, at 0.75 and by size, and AP of every class, by COCO's own code."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    notes, results = [], []
    for number, (image, seen) in enumerate(zip(objects, found, strict=True)):
        for (left, top, right, bottom), label, crowd in zip(
            image.boxes.double().tolist(), image.labels.tolist(), image.crowd.tolist(), strict=True
        ):
            box = [left, top, right - left, bottom - top]
            notes.append({"id": len(notes) + 1, "image_id": number, "category_id": label, "bbox": box,
                          "area": box[2] * box[3], "iscrowd": int(crowd)})  # fmt: skip
        for (left, top, right, bottom), label, score in zip(
            seen.boxes.double().tolist(), seen.labels.tolist(), seen.scores.tolist(), strict=True
        ):
            box = [left, top, right - left, bottom - top]
            results.append({"image_id": number, "category_id": label, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        images = [{"id": number, "height": SIDE, "width": SIDE} for number in range(len(objects))]
        categories = [{"id": label} for label in range(classes)]
        truth.dataset = {"images": images, "categories": categories, "annotations": notes, "info": {}}
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    precision = judge.eval["precision"][:, :, :, 0, 2]
    each = [precision[:, :, label] for label in range(classes)]
    stats = [100 * float(value) if value > -1 else None for value in judge.stats[:6]]
    return stats, [100 * float(part.mean()) if (part > -1).all() else None for part in each]


@pytest.mark.parametrize("seed", range(6))
def test_all_numbers_are_those_of_pycocotools(seed):
    draw = torch.Generator().manual_seed(seed)
    # Class 5 has no object; seed 4 has many equal scores, seed 5 more detections of a class than are evaluated.
    objects, found = draw_images(25, 5, draw, equal_scores=seed == 4, detections=900 if seed == 5 else 20)
    stats, each = by_pycocotools(objects, found, 6)
    mine = average_precision(objects, found, 6)
    numbers = [mine.ap, mine.ap50, mine.ap75, mine.ap_small, mine.ap_medium, mine.ap_large]
    assert 5 < mine.ap < 95
    assert numbers == pytest.approx(stats, abs=1e-9)
    assert list(mine.per_class) == pytest.approx(each, abs=1e-9)
    assert mine.per_class[5] is None
    assert mine.count == 25


def test_a_perfect_detector_has_100_percent_and_sizes_that_no_object_has_are_absent():
    objects = [objects_of((0, 0, 0, 20, 20), (1, 50, 50, 90, 90)), objects_of()]
    found = [found_of((1, 0.9, 50, 50, 90, 90), (0, 0.8, 0, 0, 20, 20)), found_of()]
    mine = average_precision(objects, found, 3)
    assert mine.per_class == (100, 100, None)
    wanted = {"val_ap": 100, "val_ap50": 100, "val_ap75": 100, "val_ap_small": 100, "val_ap_medium": 100}
    assert mine.numbers("val_") == wanted


def test_a_wrong_detection_before_the_correct_one_halves_the_precision():
    objects = [objects_of((0, 0, 0, 20, 20))]
    found = [found_of((0, 0.9, 100, 100, 120, 120), (0, 0.8, 0, 0, 20, 20))]
    assert average_precision(objects, found, 1).ap == pytest.approx(50)


def test_a_detection_in_a_crowd_is_neither_correct_nor_wrong():
    objects = [objects_of((0, 0, 0, 20, 20), (0, 100, 100, 200, 200), crowd=(1,))]
    found = [found_of((0, 0.9, 110, 110, 120, 120), (0, 0.8, 0, 0, 20, 20))]
    assert average_precision(objects, found, 1).ap == pytest.approx(100)


def test_a_detector_that_finds_nothing_has_0_percent(capfd):
    assert average_precision([objects_of((0, 0, 0, 20, 20))], [found_of()], 1).ap == 0
    assert capfd.readouterr() == ("", "")


def test_labels_that_count_background_are_refused():
    with pytest.raises(ValueError, match=r"found has labels from 2 to 2; the 2 classes are 0 to 1, without background"):
        average_precision([objects_of((1, 0, 0, 9, 9))], [found_of((2, 0.5, 0, 0, 9, 9))], 2)


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="found has 0 images, objects has 1"):
        average_precision([objects_of((0, 0, 0, 9, 9))], [], 1)


def test_images_without_any_object_are_refused():
    crowd = objects_of((0, 0, 0, 9, 9), crowd=(0,))
    with pytest.raises(InputError, match="none of 2 images has an object to find"):
        average_precision([crowd, objects_of()], [found_of(), found_of()], 1)
