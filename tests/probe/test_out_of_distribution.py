"""Out-of-distribution detection: known separations, saturated probabilities, and the run's own images."""

from __future__ import annotations

import pytest
import torch

from stillroom.errors import InputError
from stillroom.probe.out_of_distribution import SCORES, OutOfDistribution, separation
from tests.probe.conftest import subject_of


def test_separation_of_known_scores():
    low, high = torch.arange(100.0), torch.arange(100.0) + 200
    assert separation(high, low) == {"auroc": 100, "fpr95": 0}
    assert separation(low, high) == {"auroc": 0, "fpr95": 100}
    same = separation(low, low)
    assert same["auroc"] == pytest.approx(50)
    assert same["fpr95"] == pytest.approx(95, abs=1)
    slow = sum((a > b) + 0.5 * (a == b) for a in low.tolist() for b in (low + 30).tolist()) / 1e4
    assert separation(low, low + 30)["auroc"] == pytest.approx(100 * slow)


def test_the_score_of_the_probability_has_the_order_of_the_probability():
    logits = 3 * torch.randn(200, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(SCORES["probability"](logits).argsort(), logits.softmax(1).max(1).values.argsort())
    saturated = torch.tensor([[400.0, 0.0], [500.0, 0.0]], dtype=torch.float64)  # both probabilities round to 1
    assert SCORES["probability"](saturated).diff() > 0


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_another_set_is_measured_by_each_score(trained_runs, role):
    (one,) = OutOfDistribution().measurements(
        subject_of(trained_runs, role=role, ood=[str(trained_runs.parent / "other")])
    )
    found = one.measure()
    assert one.on == "other"
    assert (found["images"], found["other_images"]) == (28, 28)
    assert all(0 <= found[name][key] <= 100 for name in SCORES for key in ("auroc", "fpr95"))


def test_the_runs_own_images_are_refused(trained_runs):
    with pytest.raises(InputError, match=r"ood=.*images: some of its validation images are validation images of"):
        list(OutOfDistribution().measurements(subject_of(trained_runs, ood=[str(trained_runs.parent / "images")])))
