from __future__ import annotations

import math

import pytest

from stillroom.report.views.class_alignment import align, alignment_of, class_correlation
from tests.report.views.made import CLASSES, made_pair, random_logits
from tests.report.views.pngs import read_png


def slow_correlation(logits, i, j):
    a, b = logits[:, i].tolist(), logits[:, j].tolist()
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    top = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return top / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


def test_a_student_equal_to_the_teacher_differs_by_nothing():
    logits = random_logits(0)
    same = align(logits, {"same": logits.clone()}, CLASSES)
    assert same.methods[0].mean == 0
    assert same.high == 0


def test_means_and_named_pairs_agree_with_explicit_loops():
    teacher, student = random_logits(0), random_logits(1)
    got = align(teacher, {"a": student}, CLASSES).methods[0]
    gaps = {
        (CLASSES[i], CLASSES[j]): abs(slow_correlation(teacher, i, j) - slow_correlation(student, i, j))
        for i in range(4)
        for j in range(i + 1, 4)
    }
    assert got.mean == pytest.approx(sum(gaps.values()) / 6, abs=1e-4)
    assert [pair.classes for pair in got.largest] == sorted(gaps, key=gaps.get, reverse=True)[:3]
    assert f"{got.mean:.3f}" in got.text
    assert all(name in got.text for name in got.largest[0].classes)


def test_a_constant_logit_correlates_with_nothing():
    logits = random_logits(0)
    logits[:, 1] = 3.0
    got = class_correlation(logits)
    assert got[1].tolist() == [0, 1, 0, 0]
    assert got.isfinite().all()


def test_all_methods_share_one_colour_scale():
    teacher = random_logits(0)
    near = teacher + 0.2 * random_logits(1)
    far = random_logits(2)
    both = align(teacher, {"near": near, "far": far}, CLASSES)
    alone = align(teacher, {"near": near}, CLASSES)
    assert both.high > 2 * alone.high
    assert read_png(both.methods[0].image).sum() < read_png(alone.methods[0].image).sum()


def test_many_classes_share_pixels_and_the_image_stays_small():
    teacher, student = random_logits(0, 50, 301), random_logits(1, 50, 301)
    got = align(teacher, {"a": student}, [f"c{i}" for i in range(301)])
    assert got.group == 3
    assert read_png(got.methods[0].image).shape[:2] == (101, 101)
    assert len(got.methods[0].image) < 40_000


def test_a_pair_is_aligned_method_by_method(monkeypatch):
    teacher = random_logits(0)
    logits = {"kd": teacher, "labels": random_logits(1)}
    pair = made_pair(monkeypatch, {"kd": "kd", "labels": "ce"}, logits, teacher)
    got = alignment_of(pair)
    assert [method.method for method in got.methods] == ["kd", "labels"]
    assert got.methods[0].mean == 0 < got.methods[1].mean


def test_without_a_teacher_there_is_nothing_to_align_with(monkeypatch):
    assert alignment_of(made_pair(monkeypatch, {"a": "ce"}, {"a": random_logits(0)})) is None
