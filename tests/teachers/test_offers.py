from __future__ import annotations

import pytest
import torch

from stillroom.teachers.offers import one_hot_logits


@pytest.mark.parametrize("temperature", [1.0, 4.0, 8.0])
def test_the_softmax_of_a_label_is_one_hot(temperature):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):  # as a bank stores them
        logits = one_hot_logits(torch.tensor([3, 0, -1]), 20_000).to(dtype).float()
        probabilities = (logits / temperature).softmax(1)
        assert (probabilities[0, 3], probabilities[1, 0]) == (1.0, 1.0)
        assert logits.isfinite().all()
        assert probabilities[2].tolist() == pytest.approx([1 / 20_000] * 20_000)
