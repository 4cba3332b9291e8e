"""DKD, decoupled knowledge distillation: target class and other classes are matched with a weight each."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor, nn

from stillroom.losses.checks import check_finite, check_logits, check_target, check_temperature
from stillroom.losses.numerics import as_rows, class_gap, kl_binary, kl_rows, log_softmax_outside
from stillroom.losses.protocol import settings_repr


class DKDTerms(NamedTuple):
    """The two parts of decoupled knowledge distillation, unweighted: scalars, or (B,) each."""

    target: Tensor
    non_target: Tensor


def dkd_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    temperature: float = 4.0,
    reduction: Literal["mean", "none"] = "mean",
) -> DKDTerms:
    """Compute DKD's target part (TCKD) and non-target part (NCKD).

    With z = logits / T and y the label, the binary distribution (y, rest) has the logit difference
    ``z_y - log sum_{c != y} exp(z_c)``. TCKD is the KL of these, NCKD the KL of the softmaxes over the C - 1
    classes other than y; both are batch means times T^2, both >= 0. KD is TCKD + (1 - p_y) NCKD.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        target: (B,) or (...,) int64 labels in [0, C).
        temperature: T, above 0.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        Two scalars, or two (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: logits or target do not fit each other (shape, dtype, device, range), B = 0 or C < 2; the
            temperature is not finite and above 0; or the reduction is unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 5.0]])
        >>> target, non_target = dkd_terms(student, teacher, torch.tensor([2]), temperature=1.0)
        >>> target, non_target
        (tensor(0.1067), tensor(0.0671))
    """
    check_logits(student_logits, teacher_logits, leading=True)
    check_target(target, student_logits)
    check_temperature(temperature)
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction is {reduction!r}: give 'mean' or 'none'")
    student, teacher = as_rows(student_logits, teacher_logits)
    label = target.reshape(-1, 1)
    z_student, z_teacher = student / temperature, teacher / temperature
    binary = kl_binary(class_gap(z_student, label), class_gap(z_teacher, label))
    others = kl_rows(log_softmax_outside(z_student, label), log_softmax_outside(z_teacher, label))
    binary, others = (part.mean() if reduction == "mean" else part.reshape(target.shape) for part in (binary, others))
    return DKDTerms(binary * temperature**2, others * temperature**2)


def dkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute decoupled knowledge distillation's loss.

    DKD = alpha * TCKD + beta * NCKD, see :func:`dkd_terms`; 0 where the two softmaxes agree. Neither
    cross-entropy with the labels nor the published warm-up (min(epoch / 20, 1)) is included. Finite wherever
    the mathematics is: no log of a softmax, and an exact mask.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        target: (B,) or (...,) int64 labels in [0, C).
        alpha: weight of the target part.
        beta: weight of the non-target part; published per pair of networks, 0.5 to 8.
        temperature: T, above 0.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        A scalar, or (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`dkd_terms`, or alpha or beta is not finite.

    Reference:
        Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, arXiv 2203.08679, equation 7.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 5.0]])
        >>> dkd(student, teacher, torch.tensor([2]), temperature=1.0)
        tensor(0.6437)
    """
    check_finite(alpha=alpha, beta=beta)
    terms = dkd_terms(student_logits, teacher_logits, target, temperature=temperature, reduction=reduction)
    return alpha * terms.target + beta * terms.non_target


class DKD(nn.Module):
    """:func:`dkd` with its weights and temperature.

    Args:
        alpha: weight of the target part.
        beta: weight of the non-target part.
        temperature: T, above 0.

    Raises:
        ValueError: a weight is not finite, or the temperature is not finite and above 0.

    Example:
        >>> DKD(beta=2.0)
        DKD(alpha=1.0, beta=2.0, temperature=4.0)
    """

    per_sample = True
    teacher_offer = "probabilities"

    def __init__(self, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0) -> None:
        super().__init__()
        check_finite(alpha=alpha, beta=beta)
        check_temperature(temperature)
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return :func:`dkd` of two (B, C) logits and (B,) labels."""
        return self._run(student_logits, teacher_logits, target, "mean")

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        return self._run(student_logits, teacher_logits, target, "none")

    def _run(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, reduction: Literal["mean", "none"]
    ) -> Tensor:
        return dkd(
            student_logits,
            teacher_logits,
            target,
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
            reduction=reduction,
        )

    extra_repr = settings_repr
