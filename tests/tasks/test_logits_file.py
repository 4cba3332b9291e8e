"""The file with a classifier's predictions. Damaged files: tests/engine/test_predictions.py."""

from __future__ import annotations

import torch

from stillroom.tasks.classification_score import score
from stillroom.tasks.logits_file import rounded


def test_rounding_never_changes_the_predicted_class():
    close = torch.tensor([[10.0, 10.001, 3.0], [-10.001, -10.0, -20.0], [5.0, 5.0, 5.0001], [1.0, 2.0, 3.0]])
    got = rounded(close).float()
    assert got.argmax(1).tolist() == got.topk(3).indices[:, 0].tolist() == close.argmax(1).tolist() == [1, 1, 2, 2]
    assert ((got == got.max(1, keepdim=True).values).sum(1) == 1).all()
    assert (got - close).abs().max() <= 2**-7
    many = torch.randn(2000, 50, generator=torch.Generator().manual_seed(0)).div(100).add(10)
    labels = torch.zeros(2000).long()
    assert score(rounded(many).float(), labels).top1 == score(many, labels).top1
    huge = torch.tensor([[70_000.25, 1.0]])
    assert torch.equal(rounded(huge), huge)
