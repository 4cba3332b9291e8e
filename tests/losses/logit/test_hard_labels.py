"""Hard labels against their definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from torch.nn import functional

from stillroom.losses import HardLabels, hard_labels
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.hard_labels import hard_labels as reference


@QUICK
@given(data=logits(max_classes=6))
def test_reference(data: Logits) -> None:
    student, teacher = data.student.requires_grad_(), data.teacher.round()  # with ties
    loss, expected = hard_labels(student, teacher), reference(student, teacher)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    if expected.requires_grad:
        torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-9, atol=1e-12)


def test_a_correct_teacher_is_the_cross_entropy_with_the_labels() -> None:
    data = make(5, 7, seed=1)
    teacher = data.teacher.scatter(1, data.target[:, None], 1e3)
    torch.testing.assert_close(hard_labels(data.student, teacher), functional.cross_entropy(data.student, data.target))


def test_a_sample_without_a_predicted_class_has_no_gradient() -> None:
    data = make(3, 5, seed=2)
    student, teacher = data.student.requires_grad_(), data.teacher.clone()
    teacher[1] = -256.0
    rows = HardLabels().rows(student, teacher)
    assert rows[1] == 0
    gradient = gradient_of(rows.sum(), student)
    assert (gradient[1] == 0).all()
    assert (gradient[[0, 2]] != 0).all()
    torch.testing.assert_close(HardLabels()(student, teacher), rows.sum() / 3)


def test_every_position_is_a_sample() -> None:
    student, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    rows = hard_labels(student, teacher, reduction="none")
    assert rows.shape == (2, 3)
    torch.testing.assert_close(
        hard_labels(student.flatten(0, 1), teacher.flatten(0, 1), reduction="none"), rows.ravel()
    )


def test_refused_reduction() -> None:
    with pytest.raises(ValueError, match="reduction is 'sum': give 'mean' or 'none'"):
        hard_labels(torch.zeros(2, 3), torch.zeros(2, 3), reduction="sum")
