"""RC, self-correction: the student learns from its own logits with the label's logit raised."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from stillroom.losses.checks import check_logits, check_target, check_temperature
from stillroom.losses.logit.kd import kd
from stillroom.losses.numerics import as_rows
from stillroom.losses.protocol import settings_repr


def rc(
    student_logits: Tensor,
    target: Tensor,
    *,
    temperature: float = 4.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute the self-correction term: KD from the student's own logits, corrected by the label.

    With y the label and c the student's logits, taken as constants, in which c_y = s_y + max(s),

        RC = T^2 / B * sum_b KL(softmax(c_b / T) || softmax(s_b / T)) >= 0.

    There is no teacher: the published method adds KD and the cross-entropy. The correction depends on where the
    logits' zero lies: it raises the label by max(s), so the term is 0 where the largest logit is 0, and where all
    are negative it lowers the label. Logits with mean 0 per row (:func:`standardize`) avoid both.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        target: (B,) or (...,) int64 labels in [0, C).
        temperature: T, above 0.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        A scalar, or (B,) or (...,) with ``reduction="none"``; float32 (float64 if the input is).

    Raises:
        ValueError: the logits are not (..., C) floating, B = 0 or C < 2; the target does not fit them; the
            temperature is not finite and above 0; or the reduction is unknown.

    Reference:
        The RC baseline of Sun et al., "Knowledge Distillation with Refined Logits", ICCV 2025, arXiv 2408.07703,
        after its public code.

    Example:
        >>> import torch
        >>> rc(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([2]))
        tensor(1.1080)
        >>> rc(torch.tensor([[-2.0, -1.0, 0.0]]), torch.tensor([2]))
        tensor(0.)
    """
    check_logits(student_logits, student_logits, leading=True)
    check_target(target, student_logits)
    student, constant = as_rows(student_logits, student_logits)
    label = target.reshape(-1, 1)
    # A whole row may be shifted: less the maximum, the corrected logit of the label is the plain one. No sum of two
    # large logits is needed.
    corrected = (constant - constant.amax(1, keepdim=True)).scatter(1, label, constant.gather(1, label))
    rows = kd(student, corrected, temperature=temperature, reduction=reduction)
    return rows if reduction == "mean" else rows.reshape(target.shape)


class RC(nn.Module):
    """:func:`rc` with its temperature.

    Args:
        temperature: T, above 0.

    Raises:
        ValueError: the temperature is not finite and above 0.

    Example:
        >>> RC(temperature=2.0)
        RC(temperature=2.0)
    """

    per_sample = True

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, student_logits: Tensor, target: Tensor) -> Tensor:
        """Return :func:`rc` of (B, C) logits and (B,) labels."""
        return rc(student_logits, target, temperature=self.temperature)

    def rows(self, student_logits: Tensor, target: Tensor) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        return rc(student_logits, target, temperature=self.temperature, reduction="none")

    extra_repr = settings_repr
