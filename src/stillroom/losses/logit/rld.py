"""RLD, refined logit distillation: the label gets the teacher's confidence; classes below it are matched."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from stillroom.losses.checks import (
    check_finite,
    check_logits,
    check_positive,
    check_reduction,
    check_target,
    check_temperature,
)
from stillroom.losses.numerics import as_rows, class_gap, kl_binary, kl_rows
from stillroom.losses.protocol import settings_repr


class RLDTerms(NamedTuple):
    """The two parts of refined logit distillation, unweighted: scalars, or (B,) each."""

    confidence: Tensor
    correlation: Tensor


def rld_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    temperature: float = 4.0,
    confidence_temperature: float = 1.0,
    reduction: Literal["mean", "none"] = "mean",
) -> RLDTerms:
    """Compute RLD's sample confidence part (SCD) and masked correlation part (MCD).

    With y the label, SCD is the KL from the teacher's two-way distribution (its largest class, rest), whatever
    class that is, to the student's (y, rest), both at the confidence temperature T_c. MCD is the KL between the
    softmaxes at T over the classes whose teacher logit is strictly below the teacher's logit of y; a sample where
    there is none, or one, adds 0. Both are batch means, times T_c^2 and T^2, and >= 0.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        target: (B,) or (...,) int64 labels in [0, C).
        temperature: T, above 0.
        confidence_temperature: T_c, above 0.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        Two scalars, or two (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: logits or target do not fit each other (shape, dtype, device, range), B = 0 or C < 2; a
            temperature is not finite and above 0; or the reduction is unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 5.0]])
        >>> confidence, correlation = rld_terms(student, teacher, torch.tensor([2]), temperature=1.0)
        >>> confidence, correlation
        (tensor(0.1067), tensor(0.0671))
    """
    check_logits(student_logits, teacher_logits, leading=True)
    check_target(target, student_logits)
    check_temperature(temperature)
    check_positive(confidence_temperature=confidence_temperature)
    check_reduction(reduction)
    student, teacher = as_rows(student_logits, teacher_logits)
    label = target.reshape(-1, 1)
    top = teacher.argmax(1, keepdim=True)
    confidence = kl_binary(
        class_gap(student / confidence_temperature, label), class_gap(teacher / confidence_temperature, top)
    )
    kept = teacher < teacher.gather(1, label)
    correlation = kl_rows(
        _log_softmax_within(student / temperature, kept), _log_softmax_within(teacher / temperature, kept)
    )
    confidence, correlation = (
        part.mean() if reduction == "mean" else part.reshape(target.shape) for part in (confidence, correlation)
    )
    return RLDTerms(confidence * confidence_temperature**2, correlation * temperature**2)


def rld(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    confidence_temperature: float = 1.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute refined logit distillation's loss.

    RLD = alpha * SCD + beta * MCD, see :func:`rld_terms`. Where the teacher's largest class is the label, it is
    DKD (with one temperature). Elsewhere it never makes the student prefer a wrong class, so it is 0 where
    the networks agree only if they agree with the labels. Neither cross-entropy with the labels nor the published
    warm-up (min(epoch / 20, 1)) is included.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        target: (B,) or (...,) int64 labels in [0, C).
        alpha: weight of the confidence part.
        beta: weight of the correlation part; published per pair of networks.
        temperature: T of the correlation part, above 0.
        confidence_temperature: T_c of the confidence part, above 0; the public code's default is 1.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        A scalar, or (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`rld_terms`, or alpha or beta is not finite.

    Reference:
        Sun et al., "Knowledge Distillation with Refined Logits", ICCV 2025, arXiv 2408.07703.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 5.0]])
        >>> rld(student, teacher, torch.tensor([2]), temperature=1.0)
        tensor(0.6437)
        >>> rld(student, teacher, torch.tensor([0]), beta=8.0, alpha=0.0)
        tensor(0.)
    """
    check_finite(alpha=alpha, beta=beta)
    terms = rld_terms(
        student_logits,
        teacher_logits,
        target,
        temperature=temperature,
        confidence_temperature=confidence_temperature,
        reduction=reduction,
    )
    return alpha * terms.confidence + beta * terms.correlation


class RLD(nn.Module):
    """:func:`rld` with its weights and temperatures.

    Args:
        alpha: weight of the confidence part.
        beta: weight of the correlation part.
        temperature: T of the correlation part, above 0.
        confidence_temperature: T_c of the confidence part, above 0.

    Raises:
        ValueError: a weight is not finite, or a temperature is not finite and above 0.

    Example:
        >>> RLD(beta=4.0)
        RLD(alpha=1.0, beta=4.0, temperature=4.0, confidence_temperature=1.0)
    """

    per_sample = True
    teacher_offer = "probabilities"

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        confidence_temperature: float = 1.0,
    ) -> None:
        super().__init__()
        check_finite(alpha=alpha, beta=beta)
        check_temperature(temperature)
        check_positive(confidence_temperature=confidence_temperature)
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature
        self.confidence_temperature = confidence_temperature

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return :func:`rld` of two (B, C) logits and (B,) labels."""
        return self._run(student_logits, teacher_logits, target, "mean")

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        return self._run(student_logits, teacher_logits, target, "none")

    def _run(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, reduction: Literal["mean", "none"]
    ) -> Tensor:
        return rld(
            student_logits,
            teacher_logits,
            target,
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
            confidence_temperature=self.confidence_temperature,
            reduction=reduction,
        )

    extra_repr = settings_repr


def _log_softmax_within(logits: Tensor, kept: Tensor) -> Tensor:
    """Log-softmax over each row's kept classes, any number of them, with 0 written at the others."""
    # A row without kept classes is masked with 0, because a softmax over -inf alone is NaN; its values are dropped.
    floor = torch.where(kept.any(1, keepdim=True), -torch.inf, 0.0).to(logits.dtype)
    return torch.where(kept, logits, floor).log_softmax(1).masked_fill(~kept, 0.0)
