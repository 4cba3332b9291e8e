"""LumiNet: the logits of each class, standardised over the batch, are compared sample by sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_logits, check_temperature
from stillroom.losses.logit.kd import kd
from stillroom.losses.numerics import widen
from stillroom.losses.protocol import settings_repr

EPSILON = 1e-5  # added to the variance, as published


def luminet(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Compute LumiNet's loss.

    Each class of each network is standardised over the batch: ``z[b, c] = (x[b, c] - m[c]) / sqrt(v[c] + 1e-5)`` with
    the mean m and the biased variance v of the batch; the student's gradient flows through both.

    LumiNet = 1 / B * sum_b KL(softmax(z_t[b] / T) || softmax(z_s[b] / T)), >= 0, and 0 where the z-scores agree. There
    is no T^2. The published alpha enters squared: its value 33 is the weight 1089 here. Each sample's z-scores depend
    on the whole batch, so a larger batch is another loss. Neither cross-entropy with the labels nor the published
    warm-up is included.

    Args:
        student_logits: (B, C), any floating dtype; computed in float32 at least. B >= 2.
        teacher_logits: (B, C); no gradient reaches it.
        temperature: T, above 0.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: the logits disagree in shape or device, are not (B, C) floating, B < 2 or C < 2; or the temperature
            is not finite and above 0.

    Reference:
        Hossain et al., "LumiNet: Perception-Driven Knowledge Distillation via Statistical Logit Calibration",
        TMLR 2025.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 1.0]]), torch.eye(3)[:2]
        >>> luminet(student, teacher, temperature=1.0)
        tensor(1.2419)
    """
    check_logits(student_logits, teacher_logits)
    check_temperature(temperature)
    if student_logits.shape[0] < 2:
        raise ValueError(
            "student_logits has batch size 1: the classes are standardised over the batch, which needs two samples, "
            "drop the last batch"
        )
    student, teacher = (_standard_columns(x) for x in widen(student_logits, teacher_logits))
    return kd(student, teacher, temperature=temperature) / temperature**2


class LumiNet(nn.Module):
    """:func:`luminet` with its temperature.

    Args:
        temperature: T, above 0.

    Raises:
        ValueError: the temperature is not finite and above 0.

    Example:
        >>> LumiNet(temperature=8.0)
        LumiNet(temperature=8.0)
    """

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return :func:`luminet` of two (B, C) logits, B >= 2."""
        return luminet(student_logits, teacher_logits, temperature=self.temperature)

    extra_repr = settings_repr


def _standard_columns(x: Tensor) -> Tensor:
    """Return the z-scores of each column, computed at the column's own scale, so that no square overflows."""
    scale = x.detach().abs().amax(0).clamp_min(1.0)
    x = x / scale
    x = x - x.mean(0)
    # The lower bound keeps a large constant column in range; it is too small to change any other column.
    guard = (EPSILON**0.5 / scale).clamp_min(torch.finfo(x.dtype).eps ** 2).square()
    spread: Tensor = (x.square().mean(0) + guard).sqrt()
    return x / spread
