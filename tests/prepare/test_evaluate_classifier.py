"""Accuracy of a classifier from Python. Published weights: tests/prepare/test_published_model.py."""

from __future__ import annotations

import pytest

import stillroom
from stillroom.errors import InputError
from tests.conftest import tiny_model


def test_accuracy_does_not_depend_on_the_batch_size(tiny_data):
    model = tiny_model()
    one, other = (
        stillroom.evaluate(model=model, data=tiny_data, batch_size=size, accelerator="cpu") for size in (7, 40)
    )
    assert (one.top1, one.top5, one.count) == (other.top1, other.top5, 40)
    assert one.loss == pytest.approx(other.loss)


def test_a_classifier_for_other_classes_is_refused(tiny_data):
    with pytest.raises(InputError, match="4"):
        stillroom.evaluate(model=tiny_model(num_classes=7), data=tiny_data, accelerator="cpu")
