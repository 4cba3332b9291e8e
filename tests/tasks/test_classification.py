"""Classification as a task."""

from __future__ import annotations

import torch

from stillroom.batch import Batch, Mixture, Output
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import Group
from stillroom.tasks.classification import Classification
from tests.conftest import tiny_set

ALONE = Group(Machine(torch.device("cpu"), "32"))


def batch(**given):
    return Batch(torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 1]), torch.arange(3), **given)


def test_mixed_images_count_by_the_label_of_their_larger_fraction():
    output = Output(torch.eye(2)[[0, 0, 1]])
    assert int(Classification().correct(output, batch())) == 2
    mixture = Mixture(torch.tensor([1, 0, 0]), torch.tensor([0.9, 0.2, 0.2]))
    assert int(Classification().correct(output, batch(mixture=mixture))) == 2
    assert int(Classification().correct(output, batch(mixture=mixture, stand_in=True))) == 0


def test_a_row_names_what_was_not_measured():
    row = Classification().row(None, None, None)
    assert row == {"train_top1": None, "val_top1": None, "val_top5": None, "val_loss": None, "agreement": None}


def test_scores_and_agreement():
    labels = torch.tensor([0, 1, 1, 0])
    found, teacher = (torch.eye(2)[[0, 1, 0, 0]], labels), (torch.eye(2)[[0, 1, 1, 1]], labels)
    scores = Classification().evaluate(found, tiny_set(1), ALONE)
    assert (scores["top1"], scores["count"]) == (75.0, 4)
    assert Classification().agreement(found, teacher, ALONE) == 50.0
    assert Classification().row(80.0, scores, 50.0)["val_top1"] == 75.0


def test_a_run_near_chance_is_warned_of():
    rows = [{"loss": 1.0, "train_top1": 26.0, "val_top1": 24.0}, {"loss": 2.0, "train_top1": 25.0, "val_top1": 25.0}]
    assert "lower learning rate" in Classification().warning(rows, 4, 0.05)
    assert not Classification().warning([{"loss": 1.0, "train_top1": 90.0, "val_top1": None}], 4, 0.05)
