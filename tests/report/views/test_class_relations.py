from __future__ import annotations

import json
import math

import pytest
import torch

from stillroom.report.views.class_relations import (
    confusion_mass,
    pair_weights,
    relate,
    relations_of,
    two_way_probability,
)
from stillroom.report.views.ranking import ranking_of
from tests.report.views.made import CLASSES, made_pair, random_logits

IMAGES, C = 30, 6
NAMES = [f"c{i}" for i in range(C)]
LABELS = torch.arange(IMAGES) % 5  # the last class has no image


def two_methods():
    return {"kd": random_logits(1, IMAGES, C) * 3, "mine": random_logits(2, IMAGES, C) * 3}


def rankings(text="ldrld(depth=3, temperature=2, decay=0.3)"):
    return {"kd": ranking_of("kd", C), "mine": ranking_of(text, C)}


def related(text="ldrld(depth=3, temperature=2, decay=0.3)"):
    return relate(LABELS, NAMES, random_logits(0, IMAGES, C), two_methods(), rankings(text))


def test_two_way_probabilities_agree_with_a_double_loop():
    teacher, got = random_logits(0, IMAGES, C), related()
    assert got["temperature"] == 2.0
    for place, partners, row in zip(got["shown"], got["partners"], got["teacher"], strict=True):
        for j, value in zip(partners, row, strict=True):
            total = 0.0
            images = [n for n in range(IMAGES) if LABELS[n] == place]
            for n in images:
                p_c, p_j = (math.exp(float(teacher[n, k]) / 2.0) for k in (place, j))
                total += p_c / (p_c + p_j)
            assert value == pytest.approx(total / len(images), abs=1e-4)


def test_weights_agree_with_an_explicit_loop():
    student, got = two_methods()["mine"], related()
    for place, partners, weights, among in zip(
        got["shown"], got["partners"], got["weights"][1], got["among"][1], strict=True
    ):
        for j, weight, share in zip(partners, weights, among, strict=True):
            seen, images = [], 0
            for n in range(IMAGES):
                if LABELS[n] != place:
                    continue
                images += 1
                order = sorted(range(C), key=lambda k: -float(student[n, k]))[:3]
                if place in order and j in order:
                    a, b = order.index(place) + 1, order.index(j) + 1
                    seen.append(1 / (abs(a - b) + 1.5) * 2.0 * math.exp(-0.3 * (a + b)))
            assert share == pytest.approx(len(seen) / images, abs=1e-4)
            assert weight == (pytest.approx(sum(seen) / len(seen), abs=1e-4) if seen else None)


def test_partners_are_the_classes_that_get_the_most_probability():
    got, mass = related(), torch.zeros(C, C)
    networks = [(random_logits(0, IMAGES, C), 0.5), *((logits, 0.25) for logits in two_methods().values())]
    for logits, share in networks:
        for n in range(IMAGES):
            mass[LABELS[n]] += share * logits[n].softmax(0) / 6
    for place, partners, row in zip(got["shown"], got["partners"], got["confusion"], strict=True):
        others = sorted((j for j in range(C) if j != place), key=lambda j: -float(mass[place, j]))
        assert partners == others
        assert row == pytest.approx([float(mass[place, j]) for j in others], abs=1e-4)


def test_a_class_without_images_is_a_partner_but_is_not_shown():
    got = related()
    assert got["shown"] == [0, 1, 2, 3, 4]
    assert got["images"] == [6] * 5
    assert any(5 in partners for partners in got["partners"])


def test_of_many_classes_the_most_confused_are_shown_with_eight_partners_each():
    count = 230
    labels = torch.arange(count)
    sure = torch.eye(count) * 20
    sure[7:37] = 0.0  # these thirty are wholly unsure
    got = relate(labels, [str(c) for c in range(count)], sure, {"a": sure}, {"a": ranking_of("ce", count)})
    assert len(got["shown"]) == 200
    assert got["shown"] == sorted(got["shown"])
    assert set(range(7, 37)) <= set(got["shown"])
    assert {len(partners) for partners in got["partners"]} == {8}


def test_ldrld_without_pairs_gives_no_pair_a_weight():
    got = related("ldrld(depth=3, pairs=false)")
    assert {weight for row in got["weights"][1] for weight in row} <= {0.0, None}


def test_every_pair_is_among_the_top_when_the_depth_is_all_classes():
    logits = random_logits(3, 5, C)
    weights, among = pair_weights(logits, 0, torch.arange(1, C), ranking_of(f"ldrld(depth={C})", C))
    assert among.tolist() == [1.0] * 5
    assert weights.isfinite().all()


def test_rows_of_the_confusion_sum_to_1():
    mass = confusion_mass(LABELS, random_logits(0, IMAGES, C), two_methods(), C)
    assert mass.sum(1).tolist() == pytest.approx([1, 1, 1, 1, 1, 0])


def test_far_apart_logits_give_probabilities_and_no_overflow():
    logits = torch.tensor([[3e4, -3e4, 0.0]])
    assert two_way_probability(logits, 0, torch.tensor([1, 2]), 1.0).tolist() == [1.0, 1.0]
    assert two_way_probability(logits, 1, torch.tensor([0]), 1.0).tolist() == [0.0]


def test_a_pair_becomes_plain_json(monkeypatch):
    logits = {"one": random_logits(1), "two": random_logits(2)}
    pair = made_pair(monkeypatch, {"one": "kd", "two": "ldrld(depth=3, temperature=2)"}, logits, random_logits(0))
    got = relations_of(pair)
    assert json.loads(json.dumps(got, allow_nan=False)) == got
    assert got["classes"] == list(CLASSES)
    assert (got["methods"], got["depths"], got["own"]) == (["one", "two"], [4, 3], [False, True])


def test_two_hundred_classes_and_ten_methods_stay_below_a_megabyte_and_a_half():
    labels, names = torch.arange(400) % 200, [f"a class with a longer name {c}" for c in range(200)]
    students = {f"method {m}": random_logits(m + 1, 400, 200) for m in range(10)}
    found = relate(labels, names, random_logits(0, 400, 200), students, {m: ranking_of("ldrld", 200) for m in students})
    assert len(json.dumps(found, separators=(",", ":"))) < 1_500_000


def test_without_a_teacher_the_students_alone_decide(monkeypatch):
    got = relations_of(made_pair(monkeypatch, {"a": "ce"}, {"a": random_logits(0)}))
    assert got["teacher"] is None
    assert len(got["students"][0]) == 4
