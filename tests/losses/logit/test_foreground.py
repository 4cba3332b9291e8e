"""Foreground against losses of logits from which background is cut by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stillroom.losses import CRLD, DKD, GKL, KD, LDRLD, OFA, RC, Foreground, Standardized, dkd, foreground, kd, ldrld
from stillroom.losses.protocol import connect_needs_of, needs_of, properties_of


def logits(rows: int = 6, columns: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(rows, columns, dtype=torch.float64, requires_grad=True), torch.randn(rows, columns).double()


def gradient(loss: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    (found,) = torch.autograd.grad(loss, leaf)
    return found


def test_a_loss_without_labels_sees_all_rows_without_the_first_column() -> None:
    student, teacher = logits()
    made, wanted = (
        Foreground(KD(temperature=2.0))(student, teacher),
        kd(student[:, 1:], teacher[:, 1:], temperature=2.0),
    )
    torch.testing.assert_close(made, wanted)
    slope = gradient(made, student)
    torch.testing.assert_close(slope, gradient(wanted, student))
    assert torch.equal(slope[:, 0], torch.zeros(6).double())


def test_a_loss_of_labels_sees_rows_of_objects_with_labels_from_zero() -> None:
    student, teacher = logits()
    target = torch.tensor([0, 3, 1, 0, 4, 0])
    rows = [1, 2, 4]
    wanted = dkd(student[rows][:, 1:], teacher[rows][:, 1:], torch.tensor([2, 0, 3]))
    made = Foreground(DKD())(student, teacher, target)
    torch.testing.assert_close(made, wanted)
    slope = gradient(made, student)
    torch.testing.assert_close(slope, gradient(wanted, student))
    assert not slope[[0, 3, 5]].any()


def test_background_logits_change_nothing() -> None:
    student, teacher = logits()
    shifted = teacher.clone()
    shifted[:, 0] += 50
    loss = Foreground(LDRLD(depth=3))
    assert loss(student, teacher).item() == loss(student, shifted).item()
    torch.testing.assert_close(loss(student, teacher), ldrld(student[:, 1:], teacher[:, 1:], depth=3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_objects_a_loss_of_labels_is_zero_with_a_graph(dtype: torch.dtype) -> None:
    student = torch.randn(4, 5, dtype=dtype, requires_grad=True)
    loss = Foreground(DKD())(student, torch.randn(4, 5), torch.zeros(4, dtype=torch.long))
    loss.backward()
    assert (loss.item(), loss.dtype) == (0.0, torch.float32)
    assert student.grad is not None
    assert not student.grad.any()


def test_wrappers_can_be_nested_either_way() -> None:
    student, teacher = logits()
    inside = Foreground(Standardized(KD()))(student, teacher)
    torch.testing.assert_close(inside, Standardized(KD())(student[:, 1:], teacher[:, 1:]))
    outside = Standardized(Foreground(DKD()))
    assert outside(student, teacher, torch.tensor([0, 3, 1, 0, 4, 0])) > 0


def test_a_loss_with_connectors_is_connected_without_background() -> None:
    student, teacher = logits()
    target = torch.tensor([0, 3, 1, 0, 4, 0])
    loss = Foreground(GKL())
    assert connect_needs_of(loss) == ("teacher_logits",)
    assert loss.connect is not None
    loss.connect(teacher)
    plain = GKL().connect(teacher[:, 1:])
    wanted = plain(student[target > 0][:, 1:], teacher[target > 0][:, 1:], target[target > 0] - 1, 1)
    torch.testing.assert_close(loss(student, teacher, target, 1), wanted)


def test_what_it_declares() -> None:
    assert needs_of(Foreground(RC())) == ("student_logits", "target")
    assert properties_of(Foreground(KD())).per_sample
    assert not properties_of(Foreground(DKD())).per_sample
    assert properties_of(Foreground(KD())).teacher_offer == "probabilities"


@pytest.mark.parametrize("loss", [CRLD(), OFA(), nn.MSELoss()])
def test_a_loss_that_it_cannot_wrap_is_refused(loss: nn.Module) -> None:
    with pytest.raises(ValueError, match="give one that takes student_logits"):
        Foreground(loss)


def test_bad_input_is_named() -> None:
    student, teacher = logits()
    with pytest.raises(ValueError, match="target is None: DKD reads it"):
        Foreground(DKD())(student, teacher)
    with pytest.raises(ValueError, match="background in column 0"):
        foreground(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="target holds 5"):
        Foreground(DKD())(student, teacher, torch.full((6,), 5))
