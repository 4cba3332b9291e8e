"""Linear probes: both classifiers find what is linear, and nothing in noise; a seed fixes them."""

from __future__ import annotations

import pytest
import torch

from stillroom.probe import linear_probe
from stillroom.probe.linear_probe import FrozenFeatures, logistic_probe, published_probe


def features(count: int, noise: float, seed: int) -> FrozenFeatures:
    """Three classes around three points, in 6 dimensions of very different scale."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    points = torch.eye(3, 6)[labels] + noise * torch.randn(count, 6, generator=generator)
    return FrozenFeatures(points * torch.tensor([1.0, 1.0, 0.1, 1.0, 1.0, 1.0]), labels)


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch):
    monkeypatch.setattr(linear_probe, "EPOCHS", 12)
    monkeypatch.setattr(linear_probe, "MILESTONES", (6, 9))


def test_classes_that_are_linear_are_found():
    train, test = features(150, 0.1, seed=0), features(90, 0.1, seed=1)
    assert logistic_probe(train, test, seed=0)[0] > 98
    assert published_probe(train, test, 3, seed=0) > 60  # one dimension is small, and features are not standardised


def test_noise_is_regularised_and_stays_at_chance():
    train, test = features(90, 50.0, seed=0), features(900, 50.0, seed=1)
    accuracy, strength = logistic_probe(train, test, seed=0)
    assert accuracy < 45
    assert strength < max(linear_probe.STRENGTHS)


def test_a_seed_fixes_the_result():
    train, test = features(90, 0.7, seed=0), features(600, 0.7, seed=1)
    assert logistic_probe(train, test, 1) == logistic_probe(train, test, 1)
    first, again, other = (published_probe(train, test, 3, seed) for seed in (1, 1, 2))
    assert first == again
    assert other == pytest.approx(first, abs=5)


def test_classes_with_a_single_training_image_are_no_obstacle():
    train = features(31, 0.1, seed=0)
    rare = FrozenFeatures(train.features, torch.where(torch.arange(31) == 0, 3, train.labels))
    assert logistic_probe(rare, features(30, 0.1, seed=1), seed=0)[0] > 90
