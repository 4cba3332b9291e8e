"""KD, knowledge distillation: the student matches the teacher's softened class probabilities."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from stillroom.losses.checks import check_logits, check_reduction, check_temperature
from stillroom.losses.finite import check_values
from stillroom.losses.numerics import as_rows, kl_rows
from stillroom.losses.protocol import settings_repr


def kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor = 4.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute knowledge distillation's loss.

    KD = T^2 / B * sum_b KL(softmax(t_b / T) || softmax(s_b / T)), >= 0, and 0 where the two softmaxes agree.
    The T^2 keeps the gradient's size when T changes. Neither cross-entropy with the labels nor a weight is
    included.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        temperature: T, above 0; the higher, the larger the weight of small probabilities. A floating tensor with one
            element gets a gradient, through both networks' softmaxes and the T^2; its value is not checked, that
            would wait for the device.
        reduction: "mean" over the batch, or "none" for one loss per sample.

    Returns:
        A scalar, or (B,) or (...,) with reduction "none"; float32 (float64 if a network's logits are).

    Raises:
        ValueError: the logits disagree in shape or device, are not (..., C) floating, B = 0 or C < 2; the temperature
            is not finite and above 0, or a tensor that is not one floating element on the logits' device; or the
            reduction is unknown.

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
    check_logits(student_logits, teacher_logits, leading=True)
    check_reduction(reduction)
    student, teacher = as_rows(student_logits, teacher_logits)
    if isinstance(temperature, Tensor):
        _check_learned_temperature(temperature, student)
        temperature = temperature.to(student.dtype).reshape(())
        # The temperature's gradient is a product with the logits: a row's offset would only add rounding errors.
        student, teacher = (logits - logits.detach().amax(1, keepdim=True) for logits in (student, teacher))
    else:
        check_temperature(temperature)
    rows = kl_rows((student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)) * temperature**2
    return rows.mean() if reduction == "mean" else rows.reshape(student_logits.shape[:-1])


def _check_learned_temperature(temperature: Tensor, logits: Tensor) -> None:
    """Refuse a tensor that cannot be one temperature, without reading its value."""
    if temperature.numel() != 1 or not temperature.is_floating_point():
        raise ValueError(
            f"temperature has shape {tuple(temperature.shape)} and dtype {temperature.dtype}: "
            "give a float, or a floating tensor with one element"
        )
    if temperature.device != logits.device:
        raise ValueError(
            f"temperature is on {temperature.device} but student_logits is on {logits.device}: "
            "move one with .to(device)"
        )
    check_values("temperature", temperature)


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

    per_sample = True
    teacher_offer = "top-k"

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return :func:`kd` of two (B, C) logits."""
        return kd(student_logits, teacher_logits, temperature=self.temperature)

    def rows(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the (B,) losses of the samples, whose mean is :meth:`forward`'s."""
        return kd(student_logits, teacher_logits, temperature=self.temperature, reduction="none")

    extra_repr = settings_repr
