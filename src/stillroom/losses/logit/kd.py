"""KD: the student matches the teacher's softened class probabilities."""

from __future__ import annotations

from torch import Tensor, nn

from stillroom.losses.checks import check_logits, check_temperature
from stillroom.losses.numerics import kl_rows, widen


def kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Compute knowledge distillation's loss.

    KD = T^2 / B * sum_b KL(softmax(t_b / T) || softmax(s_b / T)), >= 0, and 0 where the two softmaxes agree.
    The T^2 keeps the gradient's size when T changes. Neither cross-entropy with the labels nor a weight is
    included.

    Args:
        student_logits: (B, C), any floating dtype; computed in float32 at least.
        teacher_logits: (B, C); no gradient reaches it.
        temperature: T, above 0; the higher, the more the small probabilities count.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: the logits disagree in shape or device, are not (B, C) floating, B = 0 or C < 2; or the
            temperature is not finite and above 0.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 2.0, 5.0]])
        >>> kd(student, teacher)
        tensor(0.4983)
        >>> kd(teacher, teacher)
        tensor(0.)
    """
    check_logits(student_logits, teacher_logits)
    check_temperature(temperature)
    student, teacher = widen(student_logits, teacher_logits)
    rows = kl_rows((student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1))
    return rows.mean() * temperature**2


class KD(nn.Module):
    """:func:`kd` with its temperature.

    Args:
        temperature: T, above 0.

    Raises:
        ValueError: the temperature is not finite and above 0.

    Example:
        >>> KD(temperature=2.0)
        KD(temperature=2.0)
    """

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return :func:`kd` of two (B, C) logits."""
        return kd(student_logits, teacher_logits, temperature=self.temperature)

    def extra_repr(self) -> str:
        """Name the settings."""
        return f"temperature={self.temperature}"
