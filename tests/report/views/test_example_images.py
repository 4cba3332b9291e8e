from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from stillroom.report.views.example_images import choose, image_prediction, samples_of
from tests.report.views.made import CLASSES, Looker, made_data, made_pair, random_logits
from tests.report.views.pngs import read_png


def mask(*places, of=8):
    found = torch.zeros(of, dtype=torch.bool)
    found[list(places)] = True
    return found


def test_images_are_chosen_for_their_reason():
    teacher = mask(0, 1, 2)
    students = {"kd": mask(0, 1, 3), "ours": mask(0, 2, 4, 5), "other": mask(0)}
    got = {choice.heading: (choice.count, choice.places) for choice in choose(teacher, students, "kd", 6)}
    assert got == {
        "“ours” is correct, “kd” is wrong": (3, [2, 4, 5]),
        "“ours” is wrong, “kd” is correct": (2, [1, 3]),
        "all are wrong": (2, [6, 7]),
    }  # where the teacher is wrong and a student right, all are taken


def test_what_a_student_does_better_than_its_teacher_is_shown():
    students = {"kd": mask(1, 2), "ours": mask(1, 2, 3)}
    got = choose(mask(0), students, "kd", 6)
    assert [choice.heading for choice in got][1] == "the teacher is wrong, a student is correct"
    assert (got[1].count, got[1].places) == (3, [1, 2])


def test_few_of_many_are_spread_over_the_set():
    wrong = torch.zeros(101, dtype=torch.bool)
    (only,) = choose(None, {"ce": wrong}, "ce", 5)
    assert only.places == [0, 25, 50, 75, 100]
    assert only.count == 101


def test_one_method_alone_has_no_rival():
    assert [c.heading for c in choose(mask(0), {"ce": mask(1)}, "ce", 6)] == [
        "the teacher is wrong, a student is correct",
        "all are wrong",
    ]


def test_a_prediction_lists_the_largest_probabilities():
    got = image_prediction(torch.tensor([0.0, 2.0, 1.0, -1.0]), 2, CLASSES, 2, "")
    expected = torch.tensor([0.0, 2.0, 1.0, -1.0]).softmax(0)
    assert [name for name, _ in got.top] == ["down", "left"]
    assert [value for _, value in got.top] == pytest.approx(expected[[1, 2]].tolist(), abs=1e-4)
    assert not got.correct
    assert got.label_probability == pytest.approx(float(expected[2]), abs=1e-4)


def test_a_pair_s_images_come_with_predictions_and_maps_of_all_networks(monkeypatch):
    logits = {"kd": random_logits(1), "ours": random_logits(2)}
    teacher = random_logits(0)
    methods = {"kd": "kd", "ours": "ldrld(depth=3)"}
    pair = made_pair(monkeypatch, methods, logits, teacher, teacher_model=Looker(2.0))
    got = samples_of(pair, "kd", each=2)
    assert (got.images, got.depth, got.notes) == (40, 3, ())
    data = made_data()
    samples = [sample for group in got.groups for sample in group.samples]
    assert len(samples) == len({sample.place for sample in samples}) > 4
    for sample in samples:
        expected = np.repeat(data.val.images[sample.place].permute(1, 2, 0).numpy(), 3, 2)
        np.testing.assert_array_equal(read_png(sample.image), expected)
        assert sample.label == CLASSES[sample.place % 4]
        told = {"teacher": sample.teacher, **sample.students}
        assert list(told) == ["teacher", "kd", "ours"]
        for name, one in told.items():
            row = {"teacher": teacher, **logits}[name][sample.place]
            assert one.top[0][0] == CLASSES[int(row.argmax())]
            assert len(one.top) == 3
            assert read_png(one.cam, "RGBA").shape == (32, 32, 4)


def test_a_network_without_a_map_says_so_and_its_predictions_are_shown(monkeypatch):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    logits = {"kd": random_logits(1), "flat": random_logits(2)}
    pair = made_pair(monkeypatch, {"kd": "kd", "flat": "ce"}, logits, random_logits(0), {"flat": flat})
    got = samples_of(pair, "no such method", each=1)
    assert [note.split(":")[0] for note in got.notes] == ["teacher", "flat"]  # the teacher is not to be had here
    first = got.groups[0].samples[0]
    assert first.students["flat"].cam == "" != first.students["kd"].cam
    assert first.teacher.top
    assert first.teacher.cam == ""


def test_where_all_are_correct_there_is_nothing_to_show(monkeypatch):
    sure = 9.0 * torch.eye(4)[torch.arange(40) % 4]
    got = samples_of(made_pair(monkeypatch, {"a": "kd"}, {"a": sure}, sure), "a")
    assert got.groups == ()
