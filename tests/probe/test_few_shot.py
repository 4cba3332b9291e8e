"""Few-shot accuracy against a slow loop, its interval, and the same episodes for every network."""

from __future__ import annotations

import pytest
import torch

from stillroom.probe.few_shot import _drawn, _episode, few_shot


def clouds(per_class: int, noise: float, classes: int = 6):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(per_class * classes) % classes
    return torch.eye(classes, 8)[labels] + noise * torch.randn(len(labels), 8, generator=generator), labels


def test_easy_episodes_are_solved_and_noise_is_chance():
    easy, noise = few_shot(*clouds(20, 0.05), 5, 1, 40, seed=0), few_shot(*clouds(20, 100.0), 5, 1, 40, seed=0)
    assert easy.accuracy > 99
    assert noise.accuracy == pytest.approx(20, abs=3 * noise.interval)
    assert 0 < noise.interval < 5
    wide = few_shot(*clouds(20, 100.0), 5, 1, 10, seed=0)
    assert wide.interval > noise.interval
    assert few_shot(*clouds(20, 0.8), 5, 5, 40, seed=0).accuracy > few_shot(*clouds(20, 0.8), 5, 1, 40, seed=0).accuracy


def test_an_episode_is_what_a_loop_computes():
    features, _ = clouds(20, 0.8)
    unit = features / features.norm(dim=1, keepdim=True)
    places = torch.arange(30).view(3, 10)
    means = [sum(unit[row[k]] for k in range(4)) / 4 for row in places.tolist()]
    right = sum(
        min(range(3), key=lambda c: float((unit[image] - means[c]).norm())) == way
        for way, row in enumerate(places.tolist())
        for image in row[4:]
    )
    assert _episode(unit, places, 4) == pytest.approx(100 * right / 18)


def test_support_and_queries_are_different_images_and_depend_on_seed_and_number_only():
    by_class = [torch.arange(c * 10, c * 10 + 10).numpy() for c in range(6)]
    one = _drawn(by_class, 5, 8, 0, 3)
    assert one.unique().numel() == 40
    assert torch.equal(one, _drawn(by_class, 5, 8, 0, 3))
    assert not torch.equal(one, _drawn(by_class, 5, 8, 0, 4))
    assert not torch.equal(one, _drawn(by_class, 5, 8, 1, 3))


def test_too_few_classes_or_images_give_no_number():
    features, labels = clouds(4, 0.1, classes=3)
    assert few_shot(features, labels, 5, 1, 10, seed=0) is None
    assert few_shot(features, labels, 0, 4, 10, seed=0) is None
    assert few_shot(features, labels, 0, 3, 10, seed=0).accuracy > 90
