from __future__ import annotations

import pytest
import torch

from stillroom.teachers.offers import log_probabilities, one_hot_logits, top_k_logits


@pytest.mark.parametrize("temperature", [1.0, 4.0, 8.0])
def test_the_softmax_of_a_label_is_one_hot(temperature):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):  # as a bank stores them
        logits = one_hot_logits(torch.tensor([3, 0, -1]), 20_000).to(dtype).float()
        probabilities = (logits / temperature).softmax(1)
        assert (probabilities[0, 3], probabilities[1, 0]) == (1.0, 1.0)
        assert logits.isfinite().all()
        assert probabilities[2].tolist() == pytest.approx([1 / 20_000] * 20_000)


def test_the_softmax_of_log_probabilities_are_the_probabilities() -> None:
    rows = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.7, 0.05]])
    assert log_probabilities(rows).isfinite().all()
    assert torch.allclose(log_probabilities(rows).softmax(1), rows, atol=1e-6)


def test_the_rest_of_the_mass_is_spread_evenly() -> None:
    logits = top_k_logits(torch.tensor([[2, 0], [1, 3]]), torch.tensor([[0.6, 0.2], [1.0, 0.0]]), 4)
    assert torch.allclose(logits.softmax(1), torch.tensor([[0.2, 0.1, 0.6, 0.1], [0.0, 1.0, 0.0, 0.0]]), atol=1e-6)
    assert logits.isfinite().all()
