from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from stillroom.report.views.feature_plane import confused_couples, in_the_plane, pick, plane_of, same_class_neighbours
from tests.report.views.made import CLASSES, Looker, made_pair, random_logits


def two_clusters(each=30):
    noise = torch.randn(2 * each, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(2).repeat_interleave(each)
    return noise + 40.0 * labels[:, None], labels


def test_well_separated_clusters_stay_apart_and_a_second_run_is_the_same():
    embedding, labels = two_clusters()
    points = in_the_plane(embedding)
    assert same_class_neighbours(points, labels) == 1.0
    assert points.abs().max() == 1.0
    assert torch.equal(points, in_the_plane(embedding))


def test_a_layout_is_turned_to_lie_as_an_earlier_one():
    embedding, _ = two_clusters()
    points = in_the_plane(embedding)
    quarter = points @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(in_the_plane(embedding, quarter), quarter / quarter.abs().max())


@pytest.mark.parametrize("embedding", [torch.ones(9, 4), torch.randn(3, 4), torch.randn(1, 4)])
def test_what_cannot_be_laid_out_lies_in_the_middle(embedding):
    assert in_the_plane(embedding).tolist() == [[0.0, 0.0]] * len(embedding)


def test_neighbours_of_mixed_classes_are_shared():
    line = torch.arange(40.0)[:, None]
    assert same_class_neighbours(line, torch.arange(40) // 20) > 0.8
    assert same_class_neighbours(line, torch.arange(40) % 2, 2) < 0.1


def test_classes_are_chosen_in_their_most_confused_couples():
    mass = torch.zeros(8, 8, dtype=torch.float64)
    mass[1, 6], mass[6, 1], mass[6, 2], mass[4, 3], mass[0, 7] = 0.4, 0.1, 0.45, 0.3, 0.9
    labels = torch.arange(7)  # class 7 has no image
    assert confused_couples(mass, labels, most=4) == [1, 3, 4, 6]
    assert confused_couples(mass, labels, most=10) == [0, 1, 2, 3, 4, 5, 6]


def test_as_many_dataset_of_each_class_are_picked_all_over_the_set():
    labels = torch.arange(100) % 4
    places = pick(labels, [1, 3], most=10)
    assert torch.bincount(labels[places]).tolist() == [0, 5, 0, 5]
    assert (places[0], places[-1]) == (1, 99)
    assert len(pick(labels, [0], most=600)) == 25


def test_a_pair_s_networks_are_laid_out_with_the_same_images(monkeypatch):
    headless = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Softplus())
    logits = {"kd": random_logits(1), "odd": random_logits(2)}
    models = {"odd": headless}
    pair = made_pair(monkeypatch, {"kd": "kd", "odd": "ce"}, logits, random_logits(0), models, Looker(2.0))
    got = plane_of(pair)
    assert got.classes == CLASSES
    assert got.labels == tuple(torch.arange(40).remainder(4).tolist())
    assert len(got.teacher.points) == len(got.students["kd"].points) == 40
    assert 0 <= got.students["kd"].neighbours <= 1
    assert got.students["odd"].points == ()
    assert "does not end in one linear layer" in got.students["odd"].text
    assert json.dumps([got.teacher.points, got.students["kd"].points], allow_nan=False)
    # The student's embedding is the teacher's but for its scale, which t-SNE does not see.
    assert got.students["kd"].points == got.teacher.points


def test_a_pair_without_a_teacher_shows_its_students(monkeypatch):
    got = plane_of(made_pair(monkeypatch, {"a": "ce"}, {"a": random_logits(0)}))
    assert got.teacher is None
    assert len(got.students["a"].points) == 40
