from __future__ import annotations

import pytest
import torch

from stillroom.errors import InputError
from stillroom.teachers.offers import as_logits, check_probabilities, log_probabilities, one_hot_logits, top_k_logits


@pytest.mark.parametrize("temperature", [1.0, 4.0, 8.0])
def test_the_softmax_of_a_label_is_one_hot(temperature):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):  # as a bank stores them
        logits = one_hot_logits(torch.tensor([3, 0, -1]), 20_000).to(dtype).float()
        probabilities = (logits / temperature).softmax(1)
        assert (probabilities[0, 3], probabilities[1, 0]) == (1.0, 1.0)
        assert logits.isfinite().all()
        assert probabilities[2].tolist() == pytest.approx([1 / 20_000] * 20_000)


def test_log_probabilities_are_the_logits_up_to_a_constant():
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    gap = as_logits("probabilities", logits.softmax(1)) - logits
    torch.testing.assert_close(gap, gap[:, :1].expand(4, 6), rtol=0, atol=1e-5)
    assert torch.equal(as_logits("logits", logits), logits)


def test_a_probability_of_zero_is_finite():
    found = as_logits("probabilities", torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    assert found.dtype == torch.float32
    assert found.tolist() == [[0.0, pytest.approx(-87.3365, abs=1e-3)]]


def test_what_the_top_k_leave_is_spread_evenly():
    wide = torch.tensor([[0.0, 0.6, 0.0, 0.1, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    found = as_logits("top-k", wide)
    assert found.isfinite().all()
    torch.testing.assert_close(found.softmax(1), torch.tensor([[0.1, 0.6, 0.1, 0.1, 0.1], [1.0, 0.0, 0.0, 0.0, 0.0]]))


def test_the_largest_score_is_the_label():
    scores = torch.tensor([[0.1, 0.2, 0.7], [5.0, 1.0, 2.0]])
    assert torch.equal(as_logits("labels", scores), one_hot_logits(torch.tensor([2, 0]), 3))


@pytest.mark.parametrize(
    ("offer", "values", "message"),
    [
        ("probabilities", [[0.5, 0.5], [2.0, 1.0]], "is no probabilities .*a row adds up to 3.*teacher_output=logits"),
        ("probabilities", [[1.5, -0.5]], "the smallest value is -0.5"),
        ("probabilities", [[0.5, 0.3]], "a row adds up to 0.8"),
        ("top-k", [[0.9, 0.3]], "is no top-k probabilities .*a row adds up to 1.2"),
        ("probabilities", [[float("nan"), 1.0]], "is no probabilities"),
    ],
)
def test_values_that_are_no_probabilities_are_refused(offer, values, message):
    with pytest.raises(InputError, match=f"teacher=x: its output .*{message}"):
        check_probabilities(torch.tensor(values), offer, "teacher=x")


def test_probabilities_in_half_precision_pass():
    check_probabilities(torch.randn(4, 1000).softmax(1).bfloat16(), "probabilities", "teacher=x")
    check_probabilities(torch.tensor([[0.4, 0.3]]), "top-k", "teacher=x")


def test_the_softmax_of_log_probabilities_are_the_probabilities() -> None:
    rows = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.7, 0.05]])
    assert log_probabilities(rows).isfinite().all()
    assert torch.allclose(log_probabilities(rows).softmax(1), rows, atol=1e-6)


def test_the_rest_of_the_mass_is_spread_evenly() -> None:
    logits = top_k_logits(torch.tensor([[2, 0], [1, 3]]), torch.tensor([[0.6, 0.2], [1.0, 0.0]]), 4)
    assert torch.allclose(logits.softmax(1), torch.tensor([[0.2, 0.1, 0.6, 0.1], [0.0, 1.0, 0.0, 0.0]]), atol=1e-6)
    assert logits.isfinite().all()
