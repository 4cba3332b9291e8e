"""Error kinds of a detector: cases made by hand, one of each kind, and the cost of each."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from stillroom.tasks.average_precision import average_precision
from stillroom.tasks.box_errors import KINDS, box_errors, judge_image
from tests.tasks.boxes_of import draw_images, found_of, objects_of

PLACE = (0, 0, 100, 100)  # of an object
SHIFTED = (0, 0, 100, 30)  # IoU 0.3 with it
TOUCHING = (0, 0, 100, 10)  # IoU 0.1
FAR = (200, 200, 250, 250)

# The detections in an image with one object of class 0 at PLACE, its errors, and the gains in AP50.
CASES = {
    "correct": ([(0, 0.9, *PLACE)], {}, {}),
    "classification": ([(1, 0.9, *PLACE)], {"classification": 1}, {"classification": 100}),
    "localisation": ([(0, 0.9, *SHIFTED)], {"localisation": 1}, {"localisation": 100}),
    "localisation at 0.1": ([(0, 0.9, *TOUCHING)], {"localisation": 1}, {"localisation": 100}),
    # Removing one of two obstacles alone gains nothing.
    "both": ([(1, 0.9, *SHIFTED)], {"both": 1, "missed": 1}, {"missed": 100}),
    "both, then correct": ([(1, 0.9, *SHIFTED), (0, 0.8, *PLACE)], {"both": 1}, {}),
    "background": ([(0, 0.9, *FAR), (0, 0.8, *PLACE)], {"background": 1}, {"background": 50}),
    "background at 0.1": ([(1, 0.9, *TOUCHING), (0, 0.8, *PLACE)], {"background": 1}, {}),
    "missed": ([], {"missed": 1}, {"missed": 100}),
    "missed, and background": ([(0, 0.9, *FAR)], {"background": 1, "missed": 1}, {}),
    "duplicate": ([(0, 0.9, *PLACE), (0, 0.8, *PLACE)], {"duplicate": 1}, {}),
    # The object has a match, so that fixing these removes them.
    "localisation of a found one": ([(0, 0.9, *SHIFTED), (0, 0.8, *PLACE)], {"localisation": 1}, {"localisation": 50}),
    "classification of a found one": ([(1, 0.9, *PLACE), (0, 0.8, *PLACE)], {"classification": 1}, {}),
    # Only the first of two is fixed, the other is removed.
    "two of a kind": ([(0, 0.9, *SHIFTED), (0, 0.8, *SHIFTED)], {"localisation": 2}, {"localisation": 100}),
    "two kinds for one object": (
        [(0, 0.9, *SHIFTED), (1, 0.8, *PLACE)],
        {"localisation": 1, "classification": 1},
        {"localisation": 100, "classification": 50},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_kind_is_told_apart_and_priced(case):
    detections, counts, gains = CASES[case]
    mine = box_errors([objects_of((0, *PLACE))], [found_of(*detections)])
    assert mine.counts == dict.fromkeys(KINDS, 0) | counts
    assert mine.gains == pytest.approx(dict.fromkeys(KINDS, 0) | gains)


def test_a_duplicate_of_one_object_costs_precision_before_the_next():
    objects = [objects_of((0, *PLACE), (0, *FAR))]
    found = [found_of((0, 0.9, *PLACE), (0, 0.8, *PLACE), (0, 0.7, *FAR))]
    mine = box_errors(objects, found)
    assert mine.counts["duplicate"] == 1
    # Precision is 1 at the 51 recalls up to 0.5 and 2/3 at the 50 above.
    assert mine.ap50 == pytest.approx(100 * (51 + 50 * 2 / 3) / 101)
    assert mine.gains["duplicate"] == pytest.approx(100 - mine.ap50)


def test_a_detection_between_two_objects_is_a_localisation_error_before_a_classification_error():
    objects = [objects_of((0, *PLACE), (1, *SHIFTED))]
    mine = box_errors(objects, [found_of((0, 0.9, *SHIFTED))])
    assert mine.counts == dict.fromkeys(KINDS, 0) | {"localisation": 1, "missed": 1}


def test_a_detection_in_a_crowd_is_no_error_and_a_crowd_is_not_missed():
    objects = [objects_of((0, *PLACE), (0, *FAR), crowd=(1,)), objects_of()]
    found = [found_of((0, 0.9, 210, 210, 220, 220), (0, 0.8, *PLACE)), found_of((0, 0.7, *FAR))]
    mine = box_errors(objects, found)
    assert mine.counts == dict.fromkeys(KINDS, 0) | {"background": 1}
    assert mine.ap50 == pytest.approx(100)


@pytest.mark.parametrize("seed", range(3))
def test_ap50_is_that_of_the_average_precision_and_every_detection_has_one_kind(seed):
    objects, found = draw_images(25, 5, torch.Generator().manual_seed(seed))
    mine = box_errors(objects, found)
    assert mine.ap50 == pytest.approx(average_precision(objects, found, 5).ap50, abs=1e-9)
    assert all(mine.counts.values())
    assert all(0 <= gain <= 100 - mine.ap50 for gain in mine.gains.values())


def test_numbers_of_a_drawn_set_are_those_of_the_authors_program():
    # By tidecv 1.0.1. No crowds, which it treats otherwise; and no object with errors of both the kinds that name one.
    objects, found = draw_images(40, 3, torch.Generator().manual_seed(13), crowds=False)
    mine = box_errors(objects, found)
    assert mine.ap50 == pytest.approx(28.351898, abs=1e-5)
    assert list(mine.counts.values()) == [43, 8, 7, 143, 143, 50]
    wanted = [4.087086, 0.564693, 0.441076, 4.473809, 14.189585, 12.899469]
    assert list(mine.gains.values()) == pytest.approx(wanted, abs=1e-5)


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="found has 0 images, objects has 1"):
        box_errors([objects_of((0, *PLACE))], [])
    with pytest.raises(ValueError, match="1 images without an object"):
        box_errors([objects_of()], [found_of()])


def test_an_image_alone_is_judged_as_in_a_set():
    objects, found = draw_images(10, 3, torch.Generator().manual_seed(2))
    judged = [judge_image(image, seen) for image, seen in zip(objects, found, strict=True)]
    kinds = [kind for each, _ in judged for kind in each]
    counts = box_errors(objects, found).counts
    assert {kind: kinds.count(kind) for kind in KINDS[:-1]} == {kind: counts[kind] for kind in KINDS[:-1]}
    for image, (each, there) in zip(objects, judged, strict=True):
        assert sum(there) == each.count("correct") + int(image.crowd.sum())


def test_a_page_of_classifiers_does_not_wait_for_torchvision():
    code = "import sys, stillroom.report.page; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
