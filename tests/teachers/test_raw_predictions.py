from __future__ import annotations

import pytest
import torch

from stillroom.errors import InputError
from stillroom.teachers.raw_predictions import RawPredictions


def test_the_number_of_classes_is_that_of_the_outputs():
    made = RawPredictions("logits", None, [torch.tensor([[1.0, 2.0, -3.0]])], "teacher=x")
    assert made.class_count == 3
    assert made.classes is None
    assert made.logits([torch.ones(2, 3, dtype=torch.float64)]).dtype == torch.float32


def test_log_probabilities_are_finite_where_a_probability_is_zero():
    rows = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    logits = RawPredictions("probabilities", None, [rows], "teacher=x").logits([rows])
    assert logits.isfinite().all()
    assert torch.allclose(logits.softmax(1), rows, atol=1e-6)


def test_logits_are_no_probabilities():
    with pytest.raises(InputError, match=r"is no probabilities .*give teacher_output=logits"):
        RawPredictions("probabilities", None, [torch.tensor([[0.5, 0.9]])], "teacher=x")


@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 1), (2,)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match=r"expected \(images, classes\)"):
        RawPredictions("logits", None, [torch.zeros(shape)], "teacher=x")


def test_the_names_of_the_classes_must_fit():
    with pytest.raises(InputError, match="predicts 3 classes, and teacher_classes names 2"):
        RawPredictions("logits", ["a", "b"], [torch.zeros(1, 3) - 1], "teacher=x")
    with pytest.raises(InputError, match="give teacher_classes="):
        RawPredictions("labels", None, [torch.zeros(1, dtype=torch.long)], "teacher=x")


def test_the_rest_of_top_k_is_spread_evenly():
    classes, scores = torch.tensor([[2, 0]]), torch.tensor([[0.6, 0.2]])
    made = RawPredictions("top-k", list("abcd"), [classes, scores], "teacher=x")
    assert torch.allclose(made.logits([classes, scores]).softmax(1), torch.tensor([[0.2, 0.1, 0.6, 0.1]]))


def test_a_class_that_has_no_name_is_refused():
    made = RawPredictions("labels", ["a", "b"], [torch.zeros(1, dtype=torch.long)], "teacher=x")
    assert made.logits([torch.tensor([1, 0])]).argmax(1).tolist() == [1, 0]
    with pytest.raises(InputError, match="predicts the class 2, counted from 0, and teacher_classes names 2"):
        made.logits([torch.tensor([0, 2])])
