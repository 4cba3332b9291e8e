"""NormKD: KD, or DKD, at a temperature of each sample's own, in proportion to the spread of its logits."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_finite, check_logits, check_positive, check_reduction
from stillroom.losses.finite import check_result
from stillroom.losses.logit.dkd import dkd
from stillroom.losses.logit.kd import kd
from stillroom.losses.numerics import as_rows
from stillroom.losses.protocol import settings_repr

FLOOR = 1e-6  # the least standard deviation of a row; a constant row has none


def normkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    factor: float = 2.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute the loss of normalised logits.

    Each sample of each network has the temperature ``T_b = factor * std(logits of b)``, with the unbiased standard
    deviation over the classes; the student's gradient flows through it.

    NormKD = 1 / B * sum_b T_t[b]^2 KL(softmax(t_b / T_t[b]) || softmax(s_b / T_s[b])), >= 0, and 0 where the logits
    agree up to scale and a constant. A standard deviation below 1e-6 counts as 1e-6. The cross-entropy with the labels
    is not included.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        factor: temperature over standard deviation, above 0; published 2 on CIFAR-100, 1 on ImageNet.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        A scalar, or (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: the logits disagree in shape or device, are not (..., C) floating, B = 0 or C < 2; the factor is not
            finite and above 0; or the reduction is unknown.
        NotFinite: the loss is beyond its dtype, as from teacher logits of 1e19 in float32 (CPU only).

    Reference:
        Chi et al., "NormKD: Normalized Logits for Knowledge Distillation", arXiv 2308.00520.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 2.0, 5.0]])
        >>> normkd(student, teacher)
        tensor(0.0944)
        >>> normkd(3 * teacher + 1, teacher).abs().item() < 1e-6
        True
    """
    student, teacher, squared = _normalised(student_logits, teacher_logits, factor)
    rows = squared * kd(student, teacher, temperature=1.0, reduction="none")
    return _reduced(rows, reduction, student_logits, teacher_logits)


def normdkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 4.0,
    beta: float = 5.0,
    factor: float = 2.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute decoupled knowledge distillation at the temperatures of :func:`normkd`.

    NormDKD = 1 / B * sum_b T_t[b]^2 (alpha TCKD_b + beta NCKD_b), with DKD's two parts (see :func:`dkd`) of the logits
    divided by each network's own temperature, without their T^2. Neither cross-entropy with the labels nor the
    published warm-up is included.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        target: (B,) or (...,) int64 labels in [0, C).
        alpha: weight of the target part.
        beta: weight of the non-target part; both are published per pair of networks.
        factor: temperature over standard deviation, above 0; published 2 on CIFAR-100, 0.5 and 0.75 on ImageNet.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        A scalar, or (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`normkd`; the target does not fit the logits; or alpha or beta is not finite.
        NotFinite: as :func:`normkd`.

    Reference:
        As :func:`normkd`.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 5.0]])
        >>> normdkd(student, teacher, torch.tensor([2])).abs().item() < 1e-5
        True
        >>> normdkd(student, teacher.square(), torch.tensor([2]))
        tensor(12.9254)
    """
    student, teacher, squared = _normalised(student_logits, teacher_logits, factor)
    parts = dkd(student, teacher, target, alpha=alpha, beta=beta, temperature=1.0, reduction="none")
    return _reduced(squared * parts, reduction, student_logits, teacher_logits)


class NormKD(nn.Module):
    """:func:`normkd` with its factor.

    Args:
        factor: temperature over standard deviation, above 0.

    Raises:
        ValueError: the factor is not finite and above 0.

    Example:
        >>> NormKD(factor=1.0)
        NormKD(factor=1.0)
    """

    per_sample = True
    teacher_offer = "probabilities"

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        check_positive(factor=factor)
        self.factor = factor

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return :func:`normkd` of two (B, C) logits."""
        return normkd(student_logits, teacher_logits, factor=self.factor)

    def rows(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        return normkd(student_logits, teacher_logits, factor=self.factor, reduction="none")

    extra_repr = settings_repr


class NormDKD(nn.Module):
    """:func:`normdkd` with its settings.

    Args:
        alpha: weight of the target part.
        beta: weight of the non-target part.
        factor: temperature over standard deviation, above 0.

    Raises:
        ValueError: a weight is not finite, or the factor is not finite and above 0.

    Example:
        >>> NormDKD(beta=8.0)
        NormDKD(alpha=4.0, beta=8.0, factor=2.0)
    """

    per_sample = True
    teacher_offer = "probabilities"

    def __init__(self, alpha: float = 4.0, beta: float = 5.0, factor: float = 2.0) -> None:
        super().__init__()
        check_finite(alpha=alpha, beta=beta)
        check_positive(factor=factor)
        self.alpha = alpha
        self.beta = beta
        self.factor = factor

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return :func:`normdkd` of two (B, C) logits and (B,) labels."""
        return self._run(student_logits, teacher_logits, target, "mean")

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        return self._run(student_logits, teacher_logits, target, "none")

    def _run(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, reduction: Literal["mean", "none"]
    ) -> Tensor:
        return normdkd(
            student_logits,
            teacher_logits,
            target,
            alpha=self.alpha,
            beta=self.beta,
            factor=self.factor,
            reduction=reduction,
        )

    extra_repr = settings_repr


def _normalised(student_logits: Tensor, teacher_logits: Tensor, factor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return both logits divided by their temperatures, (..., C), and the teacher's squared temperatures, (...)."""
    check_logits(student_logits, teacher_logits, leading=True)
    check_positive(factor=factor)
    student, teacher = as_rows(student_logits, teacher_logits)
    (student, of_student), (teacher, of_teacher) = (_by_temperature(x, factor) for x in (student, teacher))
    squared, shape = of_teacher.square(), student_logits.shape
    slope = shape[-1] * (squared / of_student.detach()).amax()  # no less than the largest gradient of a row
    check_result(slope, student_logits=student_logits, teacher_logits=teacher_logits)
    return student.reshape(shape), teacher.reshape(shape), squared.reshape(shape[:-1])


def _by_temperature(x: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return the centred rows divided by their temperatures, and these, (B, 1), computed at each row's own scale."""
    scale = x.detach().abs().amax(1, keepdim=True)
    scale = torch.where(scale > FLOOR, scale, FLOOR)
    relative = x / scale
    relative = relative - relative.mean(1, keepdim=True)
    # The second bound keeps the gradient of a large constant row in range; it is too small to change any other row.
    floor = (FLOOR / scale).clamp_min(torch.finfo(x.dtype).eps ** 2)
    temperature = factor * torch.maximum(relative.std(1, keepdim=True), floor)
    return relative / temperature, scale * temperature


def _reduced(
    rows: Tensor, reduction: Literal["mean", "none"], student_logits: Tensor, teacher_logits: Tensor
) -> Tensor:
    check_reduction(reduction)
    check_result(rows.sum(), student_logits=student_logits, teacher_logits=teacher_logits)
    return rows.mean() if reduction == "mean" else rows
