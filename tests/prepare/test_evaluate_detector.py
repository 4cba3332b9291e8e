"""Average precision of a detector, from Python. Run folders: tests/test_detection_runs.py."""

from __future__ import annotations

import torch

import stillroom
from tests.boxed_data import boxed_data
from tests.tasks.tiny_detector import tiny_detector


def test_a_detector_is_measured_for_any_batch_size_and_left_as_it_was():
    model, data = tiny_detector(classes=2).train(), boxed_data()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = {"accelerator": "cpu", "workers": 0}
    one, other = (stillroom.evaluate(model=model, data=data, batch_size=size, **settings) for size in (1, 4))
    assert (one.count, len(one.per_class)) == (6, 2)
    assert abs(one.ap - other.ap) < 1e-6
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
