"""ABKD, alpha-beta divergence: a family of divergences from KL to reverse KL and beyond, with two exponents."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_finite, check_logits, check_reduction, check_temperature
from stillroom.losses.finite import check_result
from stillroom.losses.given_gradient import wants_gradient, with_gradient
from stillroom.losses.numerics import as_rows
from stillroom.losses.protocol import settings_repr


def abkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    alpha: float = 0.8,
    beta: float = 0.3,
    temperature: float = 4.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute the alpha-beta divergence of the softened class probabilities.

    With ``p = softmax(t / T)``, ``q = softmax(s / T)`` and a, b for alpha, beta,

        ABKD = -1/B * sum_b sum_c ( p^a q^b - a/(a+b) p^(a+b) - b/(a+b) q^(a+b) ) / (a b),

    >= 0, and 0 where the two softmaxes agree. Where a, b or a + b is 0 it is the limit: (1, 0) is KL(p || q), (0, 1) is
    KL(q || p), (0.5, 0.5) is 4 times the squared Hellinger distance, (0, 0) half the squared difference of the
    log-probabilities. A larger alpha counts the classes that the teacher finds likely, a larger beta those that the
    student does. There is no T^2. Neither cross-entropy with the labels nor a weight is included.

    The gradient is computed from its closed form, ``(u - q sum_c u) / (T B)`` with ``u = q^b (q^a - p^a) / a``, and is
    exact in every case. The value loses digits where alpha or beta is close to 0 but not 0, at most half of them.
    Double backward is not available.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        alpha: exponent of the teacher's probabilities, finite.
        beta: exponent of the student's probabilities, finite.
        temperature: T, above 0.
        reduction: "mean" over the batch, or "none" for one loss per sample.

    Returns:
        A scalar, or (B,) or (...,) with reduction "none"; float32 (float64 if an input is).

    Raises:
        ValueError: the logits disagree in shape or device, are not (..., C) floating, B = 0 or C < 2; alpha or beta is
            not finite; the temperature is not finite and above 0; or the reduction is unknown.
        NotFinite: the divergence is beyond the dtype (CPU only), which needs a negative exponent or both at 0.

    Reference:
        Wang et al., "ABKD: Pursuing a Proper Allocation of the Probability Mass in Knowledge Distillation via
        alpha-beta-Divergence", ICML 2025, arXiv 2505.04560.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 2.0, 5.0]])
        >>> abkd(student, teacher)
        tensor(0.0281)
        >>> abkd(student, teacher, alpha=1.0, beta=0.0) * 4.0**2  # KD
        tensor(0.4983)
    """
    check_logits(student_logits, teacher_logits, leading=True)
    check_finite(alpha=alpha, beta=beta)
    check_temperature(temperature)
    check_reduction(reduction)
    student, teacher = as_rows(student_logits, teacher_logits)
    log_q, log_p = ((logits / temperature).log_softmax(1) for logits in (student.detach(), teacher))
    loss = _divergence(log_q, log_p, alpha, beta)
    if reduction == "mean":
        loss = loss.mean()
    if wants_gradient(student):
        pull = _pull(log_q, log_p, alpha, beta)
        gradient = pull.sub_(log_q.exp().mul_(pull.sum(1, keepdim=True)))
        gradient.mul_(1 / (temperature * (len(student) if reduction == "mean" else 1)))
        loss = with_gradient(student, loss, gradient)
    if alpha < 0 or beta < 0 or alpha == beta == 0:
        check_result(loss.detach().sum(), student_logits=student_logits, teacher_logits=teacher_logits)
    return loss if reduction == "mean" else loss.reshape(student_logits.shape[:-1])


def _divergence(log_q: Tensor, log_p: Tensor, alpha: float, beta: float) -> Tensor:
    """The divergence of each row, (B,).

    With r = log p - log q, a class adds ``q^(a+b) (h(a + b) - h(a)) / b`` where h(k) = (exp(k r) - 1) / k. The
    divergence is the same with the networks and the exponents exchanged. The larger of p and q is therefore taken out
    of the bracket, so that no power in it exceeds 1 as long as the exponents are not negative.
    """
    gap = log_p - log_q
    below = -gap.abs()
    factor = torch.maximum(log_q, log_p).mul_(alpha + beta).exp_()
    return (factor * torch.where(gap <= 0, _slope(alpha, beta, below), _slope(beta, alpha, below))).sum(1)


def _slope(exponent: float, step: float, log_ratio: Tensor) -> Tensor:
    """(h(k + d) - h(k)) / d for h(k) = (exp(k r) - 1) / k, with the derivative of h for the smallest d."""
    least = torch.finfo(log_ratio.dtype).eps ** 0.5  # nearer to 0 the difference has fewer digits than the limit
    if abs(step) > least:
        return (_power(exponent + step, log_ratio) - _power(exponent, log_ratio)) / step
    if abs(exponent) > least:
        return (log_ratio * (exponent * log_ratio).exp() - _power(exponent, log_ratio)) / exponent
    return log_ratio.square() / 2


def _power(exponent: float, log_ratio: Tensor) -> Tensor:
    """(exp(k r) - 1) / k, which is r for k = 0."""
    return log_ratio if exponent == 0 else (exponent * log_ratio).expm1() / exponent


def _pull(log_q: Tensor, log_p: Tensor, alpha: float, beta: float) -> Tensor:
    """The derivative with respect to log q, q^b (q^a - p^a) / a, from exponentials of at most 0 for beta >= 0."""
    gap = log_p - log_q
    low = gap <= 0 if alpha >= 0 else gap >= 0
    ratio = _power(alpha, -gap.abs() if alpha >= 0 else gap.abs())
    outside = torch.where(low, (alpha + beta) * log_q, beta * log_q + alpha * log_p).exp_()
    return torch.where(low, -outside, outside) * ratio


class ABKD(nn.Module):
    """:func:`abkd` with its exponents and temperature.

    Args:
        alpha: exponent of the teacher's probabilities, finite.
        beta: exponent of the student's probabilities, finite.
        temperature: T, above 0.

    Raises:
        ValueError: an exponent is not finite, or the temperature is not finite and above 0.

    Example:
        >>> ABKD(alpha=0.5, beta=0.5)
        ABKD(alpha=0.5, beta=0.5, temperature=4.0)
    """

    per_sample = True
    teacher_offer = "probabilities"

    def __init__(self, alpha: float = 0.8, beta: float = 0.3, temperature: float = 4.0) -> None:
        super().__init__()
        check_finite(alpha=alpha, beta=beta)
        check_temperature(temperature)
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return :func:`abkd` of two (B, C) logits."""
        return abkd(student_logits, teacher_logits, alpha=self.alpha, beta=self.beta, temperature=self.temperature)

    def rows(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the (B,) losses of the samples, whose mean is :meth:`forward`'s."""
        settings = {"alpha": self.alpha, "beta": self.beta, "temperature": self.temperature}
        return abkd(student_logits, teacher_logits, **settings, reduction="none")

    extra_repr = settings_repr
