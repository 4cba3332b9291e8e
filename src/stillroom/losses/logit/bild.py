"""BiLD, bi-directional logits difference: the differences between the largest logits compete in one softmax."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_logits, check_reduction, check_temperature
from stillroom.losses.numerics import as_rows, kl_rows
from stillroom.losses.protocol import settings_repr


class BiLDTerms(NamedTuple):
    """The two parts of the bi-directional difference, unweighted: scalars, or (B,) each."""

    teacher_led: Tensor
    student_led: Tensor


def bild_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    k: int = 8,
    temperature: float = 3.0,
    reduction: Literal["mean", "none"] = "mean",
) -> BiLDTerms:
    """Compute BiLD's teacher-led and student-led part.

    The leader's k largest logits, in falling order, choose k classes. Their differences ``(z_i - z_j) / T`` for all
    i < j are one vector of k (k - 1) / 2 numbers for each network. A part is the batch mean of the KL from the
    teacher's softmax over these numbers to the student's, without T^2, >= 0. With k above the number of classes all
    classes are taken. With two classes there is one difference and the loss is 0.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        k: how many classes the leader chooses, at least 2.
        temperature: T, above 0.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        Two scalars, or two (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: the logits disagree in shape or device, are not (..., C) floating, B = 0 or C < 2; k is below 2; the
            temperature is not finite and above 0; or the reduction is unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[3.0, 1.0, 5.0]])
        >>> bild_terms(student, teacher, temperature=1.0)
        BiLDTerms(teacher_led=tensor(0.7899), student_led=tensor(1.0524))
    """
    check_logits(student_logits, teacher_logits, leading=True)
    _check_k(k)
    check_temperature(temperature)
    check_reduction(reduction)
    student, teacher = as_rows(student_logits, teacher_logits)
    rows = [_led_by(leader, student, teacher, k, temperature) for leader in (teacher, student)]
    return BiLDTerms(*(x.mean() if reduction == "mean" else x.reshape(student_logits.shape[:-1]) for x in rows))


def bild(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    k: int = 8,
    temperature: float = 3.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute the loss of bi-directional logits differences.

    BiLD = teacher-led part + student-led part, see :func:`bild_terms`; 0 where the logits agree up to a constant. All
    other classes are left out. The labels are not used, and the cross-entropy with them is not included.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        k: how many classes the leader chooses, at least 2.
        temperature: T, above 0.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        A scalar, or (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`bild_terms`.

    Reference:
        Li et al., "BiLD: Bi-directional Logits Difference Loss for Large Language Model Distillation", COLING 2025,
        arXiv 2406.13555.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[3.0, 1.0, 5.0]])
        >>> bild(student, teacher, temperature=1.0)
        tensor(1.8424)
    """
    terms = bild_terms(student_logits, teacher_logits, k=k, temperature=temperature, reduction=reduction)
    return terms.teacher_led + terms.student_led


class BiLD(nn.Module):
    """:func:`bild` with its settings.

    Args:
        k: how many classes the leader chooses, at least 2.
        temperature: T, above 0.

    Raises:
        ValueError: k is below 2, or the temperature is not finite and above 0.

    Example:
        >>> BiLD(k=5)
        BiLD(k=5, temperature=3.0)
    """

    per_sample = True
    teacher_offer = "probabilities"

    def __init__(self, k: int = 8, temperature: float = 3.0) -> None:
        super().__init__()
        _check_k(k)
        check_temperature(temperature)
        self.k = k
        self.temperature = temperature

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return :func:`bild` of two (B, C) logits."""
        return bild(student_logits, teacher_logits, k=self.k, temperature=self.temperature)

    def rows(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        return bild(student_logits, teacher_logits, k=self.k, temperature=self.temperature, reduction="none")

    extra_repr = settings_repr


def _check_k(k: int) -> None:
    if not isinstance(k, int) or isinstance(k, bool) or k < 2:
        raise ValueError(f"k is {k!r}: give the number of classes that are compared, a whole number, at least 2")


def _led_by(leader: Tensor, student: Tensor, teacher: Tensor, k: int, temperature: float) -> Tensor:
    """Return the (B,) divergences over the leader's k largest classes."""
    chosen = leader.detach().topk(min(k, leader.shape[1]), 1).indices
    # A full (k, k) table with the pairs i >= j masked: its backward is deterministic on every device.
    repeated = torch.ones(chosen.shape[1], chosen.shape[1], dtype=torch.bool, device=leader.device).tril()
    log_q, log_p = (_log_softmax_of_pairs(x.gather(1, chosen) / temperature, repeated) for x in (student, teacher))
    return kl_rows(log_q, log_p)


def _log_softmax_of_pairs(logits: Tensor, repeated: Tensor) -> Tensor:
    """Log-softmax over the differences of each pair of columns, (B, k * k), with 0 at the pairs that are masked."""
    differences = (logits[:, :, None] - logits[:, None, :]).masked_fill(repeated, -torch.inf)
    return differences.flatten(1).log_softmax(1).masked_fill(repeated.flatten(), 0.0)
