from __future__ import annotations

import numpy as np
import pytest
import torch

from stillroom.engine.predictions import Predictions
from stillroom.report.close_classes import (
    Spread,
    analyse,
    class_accuracy,
    class_confusion,
    close_classes_of,
    closest_pairs,
    group_errors,
    related,
)
from tests.report.pages import made_comparison

CLASSES, IMAGES = 16, 10
NAMES = tuple(f"class {place}" for place in range(CLASSES))
LABELS = torch.arange(CLASSES).repeat_interleave(IMAGES)


def says(predicted, labels=LABELS):
    """Predictions of the given classes."""
    return Predictions(torch.eye(CLASSES)[predicted] * 5, labels, torch.arange(len(labels)))


def with_correct(counts):
    """Predictions with so many correct images of each class; the others are predicted as the class's neighbour."""
    predicted = LABELS.clone()
    for place, count in enumerate(counts):
        rows = (place == LABELS).nonzero().flatten()
        predicted[rows[count:]] = place ^ 1
    return says(predicted)


@pytest.fixture(scope="module")
def teacher():
    """Confuses classes 2k and 2k + 1, more for a larger k."""
    logits = torch.zeros(len(LABELS), CLASSES)
    rows = torch.arange(len(LABELS))
    logits[rows, LABELS ^ 1] = (LABELS // 2).float() / 2
    logits[rows, LABELS] = 5.0
    return Predictions(logits, LABELS, rows)


def test_confusion_is_the_mean_probability_in_both_directions():
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.3, 0.6, 0.1]]).log()
    confusion = class_confusion(Predictions(logits, torch.tensor([0, 0, 1]), torch.arange(3)))
    expected = torch.tensor([[0.0, 0.3, 0.0], [0.3, 0.0, 0.0], [0.0, 0.0, 0.0]])  # class 2 has no image
    assert torch.allclose(confusion, expected.double(), atol=1e-6)
    assert closest_pairs(confusion, "abc")[0] == ("a", "b", pytest.approx(0.3, abs=1e-6))


def test_errors_are_divided_by_group():
    labels = torch.tensor([0, 0, 0, 1, 2, 3])
    given = says(torch.tensor([0, 1, 2, 3, 3, 3]), labels)
    assert group_errors(given, {"pair": (0, 1)}) == (25.0, 50.0)  # of four images: 0 as 1; 0 as 2 and 1 as 3
    assert group_errors(given, {"pair": (0, 1), "other": (2, 3)}) == (pytest.approx(100 / 3), pytest.approx(100 / 3))
    assert class_accuracy(given).tolist()[:5] == [pytest.approx(100 / 3), 0.0, 0.0, 100.0, 0.0]


def test_a_method_that_gains_on_close_classes_is_seen_and_one_that_gains_alike_is_not(teacher):
    shift = [0, 1, 1, 0] * 4
    students = {
        "kd": {0: with_correct([5] * CLASSES), 1: with_correct([4] * CLASSES)},
        "close": {seed: with_correct([5 - seed + place // 4 for place in range(CLASSES)]) for seed in (0, 1, 2)},
        "alike": {0: with_correct([5 + more for more in shift])},
        "shifted": {0: with_correct([7] * CLASSES)},
    }
    found = analyse(teacher, students, "kd", NAMES, {"last": (14, 15)})
    assert found.classes == CLASSES
    assert found.closest[0][:2] == ("class 14", "class 15")
    assert found.bounds[0][1] < found.bounds[3][0]
    assert [one.mean for one in found.accuracy] == [45.0] * 4

    close, alike, shifted = (found.relations[name] for name in ("close", "alike", "shifted"))
    assert close.seeds == 2, "the third seed has no reference"
    assert [(one.mean, one.deviation) for one in close.bins] == [(0, 0), (10, 0), (20, 0), (30, 0)]
    assert close.seen
    assert 0.8 < close.low < close.correlation < close.high <= 1
    assert not alike.seen
    assert abs(alike.correlation) < 0.3
    assert alike.low < 0 < alike.high
    assert (shifted.correlation, shifted.p, shifted.seen) == (None, None, False)
    assert close.p < alike.p

    group = found.groups["last"]
    assert (group.classes, group.images, group.teacher) == (("class 14", "class 15"), 20, 100.0)
    assert group.gain["close"] == Spread(30.0, 0.0)
    assert group.accuracy["shifted"] == Spread(70.0, None)
    assert found.within["kd"].mean == 55.0
    assert found.outside["kd"].mean == 0.0
    assert found.within["shifted"] == Spread(30.0, None)


def test_a_method_that_loses_on_close_classes_is_seen_with_its_sign(teacher):
    students = {
        "kd": {0: with_correct([8] * CLASSES)},
        "far": {0: with_correct([8 - place // 4 for place in range(CLASSES)])},
    }
    found = analyse(teacher, students, "kd", NAMES, {})
    assert found.relations["far"].seen
    assert found.relations["far"].high < 0
    assert (found.groups, found.within) == ({}, {})


def test_gains_that_differ_by_rounding_have_equal_ranks():
    closeness, quarters = np.arange(8.0), np.array_split(np.arange(8), 4)
    exact = [np.array([0.3, 0.3, 0.3, 0.3, 0.6, 0.6, 0.9, 0.9])]
    rounded = [exact[0] + np.array([0, 4, -4, 2, 0, -3, 1, -1]) * 1e-16]
    found = related({"exact": exact, "rounded": rounded}, closeness, quarters)
    one, other = found["exact"], found["rounded"]
    assert (one.correlation, one.low, one.high, one.p) == (other.correlation, other.low, other.high, other.p)


def test_few_classes_or_no_teacher_give_no_analysis(teacher, tmp_path, monkeypatch):
    few = LABELS < 7
    part = Predictions(teacher.logits[few], LABELS[few], torch.arange(int(few.sum())))
    assert analyse(part, {"kd": {0: part}}, "kd", NAMES, {}) is None
    pair = made_comparison(tmp_path, monkeypatch, NAMES, ("kd", "dkd")).pairs[0]
    assert close_classes_of(pair, "kd", {}) is None
