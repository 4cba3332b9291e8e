"""Hard labels: the student's cross-entropy with the class that the teacher predicts."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillroom.losses.checks import check_logits, check_reduction
from stillroom.losses.numerics import as_rows
from stillroom.losses.protocol import settings_repr


def hard_labels(
    student_logits: Tensor, teacher_logits: Tensor, *, reduction: Literal["mean", "none"] = "mean"
) -> Tensor:
    """Compute the cross-entropy with the teacher's predicted class.

    HARD = -1 / B * sum_b log softmax(s_b)_m with m the class of the teacher's largest logit, the first of several.
    A sample whose teacher logits are all equal has no predicted class and contributes 0: the teacher's label is no
    class of the data. The cross-entropy with the true labels is not included.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; only the place of the largest is read, and no gradient reaches it.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        A scalar, or (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: the logits disagree in shape or device, are not (..., C) floating, B = 0 or C < 2; or the reduction
            is unknown.

    Reference:
        Touvron et al., "Training data-efficient image transformers & distillation through attention", ICML 2021,
        arXiv 2012.12877, equation 3: hard-label distillation.

    Example:
        >>> hard_labels(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 9.0, 2.0]]))
        tensor(1.4076)
        >>> hard_labels(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[5.0, 5.0, 5.0]]))
        tensor(0.)
    """
    check_logits(student_logits, teacher_logits, leading=True)
    check_reduction(reduction)
    student, teacher = as_rows(student_logits, teacher_logits)
    largest, predicted = teacher.max(1)
    rows = functional.cross_entropy(student, predicted, reduction="none")
    # The product is 0, or NaN where a logit is NaN or infinite: neither may be hidden by the argmax.
    rows = torch.where(teacher.amin(1) == largest, 0.0 * rows, rows) + 0.0 * largest
    return rows.mean() if reduction == "mean" else rows.reshape(student_logits.shape[:-1])


class HardLabels(nn.Module):
    """:func:`hard_labels`, which has no settings.

    Example:
        >>> HardLabels()
        HardLabels()
    """

    per_sample = True
    teacher_offer = "labels"

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return :func:`hard_labels` of two (B, C) logits."""
        return hard_labels(student_logits, teacher_logits)

    def rows(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        return hard_labels(student_logits, teacher_logits, reduction="none")

    extra_repr = settings_repr
