"""DKD, decoupled knowledge distillation: target class and other classes are matched with a weight each."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_finite, check_logits, check_reduction, check_target, check_temperature
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
    top_k: int = 0,
    coupled: bool = False,
    reduction: Literal["mean", "none"] = "mean",
) -> DKDTerms:
    """Compute DKD's target part (TCKD) and non-target part (NCKD).

    With z = logits / T and y the label, the binary distribution (y, rest) has the logit difference
    ``z_y - log sum_{c != y} exp(z_c)``. TCKD is the KL of these, NCKD the KL of the softmaxes over the C - 1
    classes other than y; both are batch means times T^2, both >= 0. KD is TCKD + (1 - p_y) NCKD.

    With ``top_k`` the softmaxes of NCKD are over the k classes with the teacher's largest logits, without y. Where no
    class is left (k = 1 and a teacher that is right), NCKD of the sample is 0.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        target: (B,) or (...,) int64 labels in [0, C).
        temperature: T, above 0.
        top_k: number of the teacher's classes in the non-target part, at most C; 0 takes all.
        coupled: multiply the non-target part of each sample by 1 - p_y of the teacher at T, as KD does.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        Two scalars, or two (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: logits or target do not fit each other (shape, dtype, device, range), B = 0 or C < 2; the
            temperature is not finite and above 0; top_k is below 0 or above C; or the reduction is unknown.

    Reference:
        Zhao et al., CVPR 2022, equations 5 and 6; top_k: Huang et al., "DeepKD", NeurIPS 2025, arXiv 2505.15133.

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
    _check_top_k(top_k, student_logits.shape[-1])
    check_reduction(reduction)
    student, teacher = as_rows(student_logits, teacher_logits)
    label = target.reshape(-1, 1)
    z_student, z_teacher = student / temperature, teacher / temperature
    teacher_gap = class_gap(z_teacher, label)
    binary = kl_binary(class_gap(z_student, label), teacher_gap)
    if top_k:
        others = _kl_of_largest(z_student, z_teacher, label, top_k)
    else:
        others = kl_rows(log_softmax_outside(z_student, label), log_softmax_outside(z_teacher, label))
    if coupled:
        others = others * torch.sigmoid(-teacher_gap)
    binary, others = (part.mean() if reduction == "mean" else part.reshape(target.shape) for part in (binary, others))
    return DKDTerms(binary * temperature**2, others * temperature**2)


def _kl_of_largest(student: Tensor, teacher: Tensor, label: Tensor, k: int) -> Tensor:
    """KL over the teacher's k largest classes without the label, (B,); 0 where there is none."""
    dropped = torch.ones_like(teacher, dtype=torch.bool).scatter(1, teacher.topk(k, dim=1).indices, False)
    dropped = dropped.scatter(1, label, True)
    empty = dropped.all(1, keepdim=True)
    dropped = dropped & ~empty  # a softmax over no class would be NaN
    log_q, log_p = (
        z.masked_fill(dropped, -torch.inf).log_softmax(1).masked_fill(dropped, 0.0) for z in (student, teacher)
    )
    # A dropped class has log-probability 0 twice and adds exp(0) * 0.
    return kl_rows(log_q, log_p).masked_fill(empty.squeeze(1), 0.0)


def _check_top_k(top_k: int, classes: int) -> None:
    """Refuse a number of classes that there are not."""
    if not 0 <= top_k <= classes:
        raise ValueError(f"top_k is {top_k}: give 0 for all classes, or at most {classes}, the number of classes")


def dkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    top_k: int = 0,
    coupled: bool = False,
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
        top_k: number of the teacher's largest classes in the non-target part; 0 takes all.
        coupled: multiply the non-target part of each sample by 1 - p_y, as KD does: KD is ``alpha = beta = 1``.
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
    terms = dkd_terms(
        student_logits,
        teacher_logits,
        target,
        temperature=temperature,
        top_k=top_k,
        coupled=coupled,
        reduction=reduction,
    )
    return alpha * terms.target + beta * terms.non_target


class DKD(nn.Module):
    """:func:`dkd` with its weights, temperature and classes.

    With ``top_k_epochs`` the number of classes grows: it is ``top_k`` in the first epoch, rises linearly, and is C
    after so many epochs. This schedule is DeepKD's by its paper only ("gradually increases K from a small initial
    value"); its public code has a constant number.

    Args:
        alpha: weight of the target part.
        beta: weight of the non-target part.
        temperature: T, above 0.
        top_k: number of the teacher's largest classes in the non-target part; 0 takes all.
        top_k_epochs: epochs after which all classes take part; 0 keeps ``top_k``.
        coupled: multiply the non-target part of each sample by 1 - p_y, as KD does.

    Raises:
        ValueError: a weight is not finite, the temperature is not finite and above 0, top_k or top_k_epochs is below 0,
            or top_k_epochs is given without top_k.

    Example:
        >>> DKD(beta=2.0)
        DKD(alpha=1.0, beta=2.0, temperature=4.0, top_k=0, top_k_epochs=0, coupled=False)
    """

    per_sample = True
    teacher_offer = "probabilities"

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        top_k: int = 0,
        top_k_epochs: int = 0,
        coupled: bool = False,
    ) -> None:
        super().__init__()
        check_finite(alpha=alpha, beta=beta)
        check_temperature(temperature)
        if top_k < 0:
            raise ValueError(f"top_k is {top_k}: give 0 for all classes, or a number of classes")
        if top_k_epochs < 0 or (top_k_epochs and not top_k):
            raise ValueError(f"top_k_epochs is {top_k_epochs}: give 0, or epochs together with top_k")
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature
        self.top_k = top_k
        self.top_k_epochs = top_k_epochs
        self.coupled = coupled
        self.needs = ("student_logits", "teacher_logits", "target", *(("epoch",) if top_k_epochs else ()))

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, epoch: int = 1) -> Tensor:
        """Return :func:`dkd` of two (B, C) logits and (B,) labels, in an epoch counted from 1."""
        terms = self._terms(student_logits, teacher_logits, target, epoch, "mean")
        return self.alpha * terms.target + self.beta * terms.non_target

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, epoch: int = 1) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        terms = self._terms(student_logits, teacher_logits, target, epoch, "none")
        return self.alpha * terms.target + self.beta * terms.non_target

    def stream_rows(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, epoch: int = 1
    ) -> dict[str, Tensor]:
        """Return the two parts of :meth:`rows`, ``target`` and ``non_target``, (B,) each, whose sum it is."""
        terms = self._terms(student_logits, teacher_logits, target, epoch, "none")
        return {"target": self.alpha * terms.target, "non_target": self.beta * terms.non_target}

    def _terms(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        target: Tensor,
        epoch: int,
        reduction: Literal["mean", "none"],
    ) -> DKDTerms:
        return dkd_terms(
            student_logits,
            teacher_logits,
            target,
            temperature=self.temperature,
            top_k=self._top_k_in(epoch, teacher_logits.shape[-1]),
            coupled=self.coupled,
            reduction=reduction,
        )

    def _top_k_in(self, epoch: int, classes: int) -> int:
        """The number of classes in an epoch; one above all classes is refused before it grows."""
        if not self.top_k_epochs:
            return self.top_k
        _check_top_k(self.top_k, classes)
        return round(self.top_k + (classes - self.top_k) * min((epoch - 1) / self.top_k_epochs, 1))

    extra_repr = settings_repr
