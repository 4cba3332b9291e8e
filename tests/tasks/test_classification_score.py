from __future__ import annotations

import pytest
import torch
from torch import nn

from stillroom.batch import Batch
from stillroom.models.predict import predict
from stillroom.tasks.classification_score import agreement, hardly_learned, score, what_to_try


def test_accuracy_and_loss_by_hand():
    logits = torch.tensor([[3.0, 1, 0, 0, 0, 0], [3.0, 1, 0, 0, 0, -9], [0.0, 1, 2, 3, 4, 5]])
    labels = torch.tensor([0, 1, 0])
    result = score(logits, labels)
    assert result.top1 == pytest.approx(100 / 3)
    assert result.top5 == pytest.approx(200 / 3)
    assert result.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item())
    assert result.count == 3


def test_fewer_than_five_classes_have_a_top5_of_everything():
    assert score(torch.eye(3), torch.tensor([1, 2, 0])).top5 == 100


def test_agreement_counts_equal_answers():
    one = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    other = torch.tensor([[9.0, 0], [0, 1], [0, 1], [0, 1]])
    assert agreement(one, other) == 75


def test_predicting_uses_evaluation_mode_and_puts_the_mode_back():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(3, 2)).train()
    images = torch.randn(5, 3, 1, 1)
    batches = [Batch(images[:3], torch.zeros(3).long(), torch.arange(3)),
               Batch(images[3:], torch.ones(2).long(), torch.arange(3, 5))]  # fmt: skip
    logits, labels = predict(model, batches)
    assert torch.equal(logits, model[2](images.flatten(1)))
    assert labels.tolist() == [0, 0, 0, 1, 1]
    assert model.training


@pytest.mark.parametrize(
    ("top1", "classes", "hardly"), [(95.0, 2, False), (52.0, 2, True), (9.2, 20, True), (13.0, 20, False)]
)
def test_what_counts_as_guessing_depends_on_the_classes(top1, classes, hardly):
    assert bool(hardly_learned(top1, classes)) == hardly


def test_a_loss_that_rose_asks_for_a_lower_rate():
    assert what_to_try(10.7, 12.4, 0.05) == "the loss rose, try a lower learning rate (lr=0.01)"
    assert what_to_try(3.0, 3.01, 0.05) == "train for more epochs, or at another learning rate"
