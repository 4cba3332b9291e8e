"""Calibration: a known temperature is found, bins hold what they say, the stored predictions suffice."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from stillroom.errors import InputError
from stillroom.probe.calibration import Calibration, best_temperature, calibration_of, reliability_bins
from stillroom.probe.subject import Subject


def overconfident(count: int = 4000, factor: float = 3.0):
    """Logits whose labels are drawn from their softmax, then multiplied: the best temperature is the factor."""
    generator = torch.Generator().manual_seed(0)
    logits = 1.5 * torch.randn(count, 5, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).flatten()
    return factor * logits, labels


def test_temperature_scaling_undoes_overconfidence():
    logits, labels = overconfident()
    assert best_temperature(logits, labels) == pytest.approx(3, rel=0.08)
    found = calibration_of(logits, labels, seed=0)
    assert found["temperature"] == pytest.approx(3, rel=0.12)
    assert found["ece_before"] > 15
    assert found["ece_after"] < 4
    assert found["nll_after"] < found["nll_before"]
    assert calibration_of(logits, labels, seed=0) == found
    assert calibration_of(logits, labels, seed=1)["temperature"] != found["temperature"]


def test_the_bins_give_the_calibration_error():
    logits, labels = overconfident(500)
    bins = reliability_bins(logits, labels)
    filled = [one for one in bins if one["count"]]
    assert len(bins) == 15
    assert sum(one["count"] for one in bins) == 500
    assert all(place / 15 <= one["confidence"] <= (place + 1) / 15 for place, one in enumerate(bins) if one["count"])
    error = sum(one["count"] * abs(one["confidence"] - one["accuracy"]) for one in filled) / 500
    assert error == pytest.approx(float(multiclass_calibration_error(logits.softmax(1), labels, 5, n_bins=15)))


def test_perfect_confidence_stays_in_the_last_bin():
    bins = reliability_bins(torch.tensor([[200.0, 0.0], [200.0, 0.0]], dtype=torch.float64), torch.tensor([0, 1]))
    assert bins[-1] == {"count": 2, "confidence": 1.0, "accuracy": 0.5}
    assert bins[0] == {"count": 0, "confidence": None, "accuracy": None}


def test_no_network_is_run(student, monkeypatch):
    monkeypatch.setattr(Subject, "model", property(lambda _: pytest.fail("the network was built")))
    monkeypatch.setattr(Subject, "data", property(lambda _: pytest.fail("the images were loaded")))
    (one,) = Calibration().measurements(student)
    assert one.on == "validation"
    assert sum(bin_["count"] for bin_ in one.measure()["bins"]) == 28


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="finite"):
        calibration_of(torch.tensor([[float("nan"), 0.0]] * 4), torch.zeros(4, dtype=torch.int64), 0)
