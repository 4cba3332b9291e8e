from __future__ import annotations

import torch

from stillroom.engine.predictions import Predictions
from stillroom.report.confusions import Change, confusions, largest_changes


def test_confusions_count_images_and_leave_correct_predictions_out():
    logits = torch.eye(3)[torch.tensor([0, 1, 1, 2])]
    counts = confusions(Predictions(logits, torch.tensor([0, 0, 1, 0]), torch.arange(4)))
    assert counts.tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_the_largest_changes_come_first_both_ways_and_unchanged_ones_never():
    before = {0: torch.tensor([[0, 9, 4], [2, 0, 1], [0, 3, 0]])}
    after = {0: torch.tensor([[0, 1, 2], [2, 0, 8], [0, 5, 0]])}
    found = largest_changes(after, before, ["a", "b", "c"], each=5)
    assert found.fell == (Change("a", "b", 9, 1), Change("a", "c", 4, 2))
    assert found.rose == (Change("b", "c", 1, 8), Change("c", "b", 3, 5))


def test_changes_are_means_over_the_seeds_of_the_method():
    before = {0: torch.tensor([[0, 2], [0, 0]]), 1: torch.tensor([[0, 4], [0, 0]]), 2: torch.tensor([[0, 99], [0, 0]])}
    after = {0: torch.tensor([[0, 1], [0, 0]]), 1: torch.tensor([[0, 0], [0, 0]])}
    assert largest_changes(after, before, ["a", "b"], each=1).fell == (Change("a", "b", 3.0, 0.5),)
