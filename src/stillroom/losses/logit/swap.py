"""SWAP, probability shift: KD from a teacher whose largest logit is swapped with the label's."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from stillroom.losses.checks import check_logits, check_target, check_temperature
from stillroom.losses.logit.kd import kd
from stillroom.losses.protocol import settings_repr


def swap(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    temperature: float = 4.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute KD from the teacher with two logits swapped: its largest and the label's.

    With y the label, m the teacher's largest class, and t' the teacher's logits with t'_y = t_m, t'_m = t_y,

        SWAP = T^2 / B * sum_b KL(softmax(t'_b / T) || softmax(s_b / T)) >= 0.

    Where the teacher is correct this is KD. Elsewhere the label gets the teacher's highest probability, and the class
    predicted in its place gets the label's. The cross-entropy with the labels is not included.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        target: (B,) or (...,) int64 labels in [0, C).
        temperature: T, above 0.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        A scalar, or (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: logits or target do not fit each other (shape, dtype, device, range), B = 0 or C < 2; the
            temperature is not finite and above 0; or the reduction is unknown.

    Reference:
        Wen, Lai and Qian, "Preparing Lessons: Improve Knowledge Distillation with Better Supervision",
        arXiv 1911.07471: the probability shift of its knowledge adjustment, without the rest of the paper.

    Example:
        >>> import torch
        >>> wrong, correct = torch.tensor([[1.0, 5.0, 2.0]]), torch.tensor([[5.0, 1.0, 2.0]])
        >>> swap(correct, wrong, torch.tensor([0]))
        tensor(0.)
    """
    check_logits(student_logits, teacher_logits, leading=True)
    check_target(target, student_logits)
    label = target.unsqueeze(-1)
    largest, top = teacher_logits.max(-1, keepdim=True)
    # The label is written last: where it is the largest class itself, both writes must leave it unchanged.
    swapped = teacher_logits.scatter(-1, top, teacher_logits.gather(-1, label)).scatter(-1, label, largest)
    return kd(student_logits, swapped, temperature=temperature, reduction=reduction)


class SWAP(nn.Module):
    """:func:`swap` with its temperature.

    Args:
        temperature: T, above 0.

    Raises:
        ValueError: the temperature is not finite and above 0.

    Example:
        >>> SWAP(temperature=2.0)
        SWAP(temperature=2.0)
    """

    per_sample = True
    teacher_offer = "top-k"

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return :func:`swap` of two (B, C) logits and (B,) labels."""
        return swap(student_logits, teacher_logits, target, temperature=self.temperature)

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        return swap(student_logits, teacher_logits, target, temperature=self.temperature, reduction="none")

    extra_repr = settings_repr
