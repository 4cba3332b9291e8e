"""Transfer: the frozen features of a tiny student classify other images; bad sets are refused by name."""

from __future__ import annotations

import pytest
import torch

from stillroom.errors import InputError
from stillroom.probe.transfer import Transfer
from tests.conftest import colour_folder
from tests.probe.conftest import subject_of


def test_the_features_of_a_student_classify_another_set(trained_runs):
    subject = subject_of(trained_runs, on=[str(trained_runs.parent / "other")])
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    (one,) = Transfer().measurements(subject)
    found = one.measure()
    assert one.on == "other"
    assert found["logistic"]["accuracy"] > 60
    assert found["published"]["accuracy"] > 30
    assert found["few_shot"]["5-way 1-shot"] is None  # there are four classes
    assert 25 < found["few_shot"]["all-way 5-shot"]["accuracy"] <= 100
    assert (found["train_images"], found["test_images"], found["classes"]) == (32, 28, 4)
    assert all(torch.equal(value, before[name]) for name, value in subject.model.state_dict().items())
    assert one.measure() == found


def test_a_set_without_labels_is_refused_before_the_network_is_built(trained_runs, tmp_path):
    flat = colour_folder(tmp_path, 4, 8)
    for path in sorted(flat.rglob("*.png")):
        path.rename(flat / f"{path.parent.name}-{path.name}")
    for folder in ("red", "green", "blue"):
        (flat / folder).rmdir()
    with pytest.raises(InputError, match=r"on=.*"):
        list(Transfer().measurements(subject_of(trained_runs, on=[str(flat)])))
