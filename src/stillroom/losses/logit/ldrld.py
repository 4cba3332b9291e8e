"""LDRLD, local dense relational logit distillation: top logits are matched pair by pair, the rest by one softmax."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_logits, check_reduction
from stillroom.losses.kernels.class_choice import Chooser
from stillroom.losses.kernels.ldrld import Backend, ldrld_closed_form
from stillroom.losses.logit.ldrld_settings import LDRLDSettings, adaptive_decay_weights
from stillroom.losses.numerics import as_rows


class LDRLDTerms(NamedTuple):
    """The local term and the remaining non-target knowledge, unweighted scalars."""

    local: Tensor
    rntk: Tensor


def ldrld(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    depth: int | None = None,
    temperature: float = 4.0,
    alpha: float = 10.5,
    beta: float = 7.0,
    delta: float = 2.0,
    epsilon: float = 1.5,
    decay: float = 0.05,
    average: bool = True,
    pairs: bool = True,
    irw: bool = True,
    erd: bool = True,
    llki: bool = True,
    rntk: bool = True,
    reduction: Literal["mean", "none"] = "mean",
    backend: Backend = "torch",
    chosen_by: Chooser = "student",
    mass: float = 0.0,
) -> Tensor:
    """Compute Local Dense Relational Logit Distillation's loss.

    Let pi(1), ..., pi(d) be the classes of the student's d largest logits, in order; the label is not used.
    With K_ij the KL between the two-way softmaxes over (pi(i), pi(j)), LLKI the KL between the softmaxes over
    the d selected classes and RNTK the KL between those over the C - d others, each at temperature T, averaged
    over the batch and times T^2:

        LDRLD = alpha * (sum_{i<j} Omega(i, j) K_ij + LLKI) / (d (d - 1) / 2 + 1) + beta * RNTK,

    >= 0, and 0 where the networks agree up to a constant per row; Omega is :func:`adaptive_decay_weights`. No
    cross-entropy with the labels is included. RNTK is 0 when d >= C - 1, since at most one class remains.

    The selection is a constant to the gradient: the loss is smooth while the student's order holds and jumps
    where two of its top logits swap. Equal logits may be ranked either way; on a CPU the lower class goes first (up to
    depth 32, uncompiled, with NumPy), elsewhere torch.topk decides. Double backward is not available.

    Experiments beside the published form: ``chosen_by`` lets the teacher, or both networks, choose and rank the classes
    (:func:`~stillroom.losses.kernels.class_choice.choose_classes`); chosen by the teacher, the loss never jumps as the
    student learns. ``mass`` adds mass * M, M being the KL between the two-way softmaxes over (the d classes, all
    others) at the same temperature. Nothing else compares how much probability the d classes have together. With P the
    teacher's probability of them, the KL over all classes is M + P LLKI + (1 - P) RNTK.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype, finite; computed in float32 at least.
        teacher_logits: the same shape, finite; no gradient reaches it.
        depth: d, how many classes are chosen and paired, 2 <= d <= C; None is the published 7, or C
            where there are fewer classes.
        temperature: T, above 0.
        alpha: weight of the local term (pairs and LLKI).
        beta: weight of RNTK.
        delta: scale of the exponential rank decay.
        epsilon: softens the inverse rank weighting, above -1.
        decay: rate of the exponential rank decay.
        average: divide the local term by d (d - 1) / 2 + 1, as the published weights assume; False is the
            paper's plain sum. Switching parts off never changes this divisor.
        pairs: False drops the pairs.
        irw: False sets the inverse rank weighting to 1.
        erd: False sets the exponential rank decay (delta included) to 1.
        llki: False drops LLKI.
        rntk: False drops RNTK, and its cost.
        reduction: "none" leaves the mean over the batch out, in one pass like the mean.
        backend: "numba" computes float32 on the CPU in one compiled function (extra ``stillroom[numba]``), in the
            time of PyTorch's own KL or less; the first call compiles it, once per installation. Other dtypes, devices,
            torch.compile and a mass term are served as with "torch", and values are the same up to rounding.
        chosen_by: whose logits choose and rank the d classes: "student" (published), "teacher" or "union".
        mass: weight of M; 0 is the published form.

    Returns:
        A scalar, or (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: depth is below 2 or above C; the logits disagree in shape or device, are not (..., C)
            floating, B = 0 or C < 2; temperature or epsilon is out of range; a weight is not
            finite; the reduction or chosen_by is unknown; or the backend is, or is not installed.

    Reference:
        "Local Dense Relational Logit Distillation", ICCV 2025, arXiv 2507.15911.

    Example:
        >>> student = torch.tensor([[4.0, 3.0, 1.0, 0.0]], requires_grad=True)
        >>> loss = ldrld(student, torch.tensor([[2.0, 5.0, 0.0, 1.0]]), depth=2)
        >>> loss.backward()
        >>> loss, student.grad
        (tensor(20.2540, grad_fn=<_GivenGradientBackward>), tensor([[ 8.5584, -8.5584,  3.4819, -3.4819]]))
    """
    settings = LDRLDSettings(
        depth, temperature, alpha, beta, delta, epsilon, decay, average, pairs, irw, erd, llki, rntk, backend,
        chosen_by, mass,
    )  # fmt: skip
    return _loss(student_logits, teacher_logits, settings, reduction)


def ldrld_terms(student_logits: Tensor, teacher_logits: Tensor, **settings: Any) -> LDRLDTerms:
    """Compute LDRLD's two terms apart, unweighted, at twice the cost of :func:`ldrld`.

    Args:
        student_logits: as in :func:`ldrld`.
        teacher_logits: as in :func:`ldrld`.
        **settings: those of :class:`LDRLDSettings`; alpha, beta, rntk and mass are not used.

    Returns:
        The local term and RNTK, each a scalar with a gradient of its own.

    Raises:
        ValueError: as :func:`ldrld`.

    Example:
        >>> student, teacher = torch.tensor([[4.0, 3.0, 1.0, 0.0]]), torch.tensor([[2.0, 5.0, 0.0, 1.0]])
        >>> ldrld_terms(student, teacher, depth=2)
        LDRLDTerms(local=tensor(1.5973), rntk=tensor(0.4974))
    """
    local = replace(LDRLDSettings(**settings), alpha=1.0, rntk=False, mass=0.0)
    rest = replace(local, beta=1.0, rntk=True, pairs=False, llki=False)
    return LDRLDTerms(*(_loss(student_logits, teacher_logits, part, "mean") for part in (local, rest)))


class LDRLD(nn.Module):
    """:func:`ldrld` with its settings.

    Args:
        depth: d, how many classes are chosen and paired; None is 7, or C where C < 7.
        temperature: T, above 0.
        alpha: weight of the local term (pairs and LLKI).
        beta: weight of RNTK.
        delta: scale of the exponential rank decay.
        epsilon: softens the inverse rank weighting, above -1.
        decay: rate of the exponential rank decay.
        average: divide the local term by d (d - 1) / 2 + 1, as the published weights assume.
        pairs: False drops the pairs.
        irw: False sets the inverse rank weighting to 1.
        erd: False sets the exponential rank decay (delta included) to 1.
        llki: False drops LLKI.
        rntk: False drops RNTK, and its cost.
        backend: "torch", or "numba" for one compiled function on the CPU (extra ``stillroom[numba]``).
        chosen_by: whose logits choose and rank the classes: "student" (published), "teacher" or "union".
        mass: weight of the KL between the masses of the d classes and of the others; 0 is the published form.

    Raises:
        ValueError: a setting is out of range (a depth above C shows only at the call).

    Example:
        >>> LDRLD(depth=5, erd=False)  # doctest: +ELLIPSIS
        LDRLD(depth=5, temperature=4.0, alpha=10.5, beta=7.0, delta=2.0, epsilon=1.5, decay=0.05, average=...)
    """

    per_sample = True
    teacher_offer = "probabilities"

    def __init__(
        self, depth: int | None = None, temperature: float = 4.0, alpha: float = 10.5, beta: float = 7.0,
        delta: float = 2.0, epsilon: float = 1.5, decay: float = 0.05, average: bool = True, pairs: bool = True,
        irw: bool = True, erd: bool = True, llki: bool = True, rntk: bool = True, backend: Backend = "torch",
        chosen_by: Chooser = "student", mass: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.settings = LDRLDSettings(
            depth, temperature, alpha, beta, delta, epsilon, decay, average, pairs, irw, erd, llki, rntk, backend,
            chosen_by, mass,
        )  # fmt: skip

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return :func:`ldrld` of two (B, C) logits."""
        return _loss(student_logits, teacher_logits, self.settings, "mean")

    def rows(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        return _loss(student_logits, teacher_logits, self.settings, "none")

    def extra_repr(self) -> str:
        """Name the settings."""
        return ", ".join(f"{name}={value}" for name, value in vars(self.settings).items())


def _loss(
    student_logits: Tensor, teacher_logits: Tensor, settings: LDRLDSettings, reduction: Literal["mean", "none"]
) -> Tensor:
    check_logits(student_logits, teacher_logits, leading=True)
    check_reduction(reduction)
    depth = settings.depth_for(student_logits.shape[-1])
    student, teacher = as_rows(student_logits, teacher_logits)
    table = _kernel_weights if torch.compiler.is_compiling() else _cached_kernel_weights
    weights = table(depth, settings, student.dtype, student.device)
    beta = settings.beta if settings.rntk else 0.0
    how = (settings.temperature, reduction, settings.backend, settings.chosen_by, settings.mass)
    loss = ldrld_closed_form(student, teacher, weights, beta, *how)
    return loss if reduction == "mean" else loss.reshape(student_logits.shape[:-1])


def _kernel_weights(depth: int, settings: LDRLDSettings, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The kernel's (d, d) table: the weights of the pairs off the diagonal, that of LLKI along it."""
    local = settings.alpha / (depth * (depth - 1) // 2 + 1) if settings.average else settings.alpha
    table = (local if settings.pairs else 0.0) * adaptive_decay_weights(depth, settings)
    table = table + (local if settings.llki else 0.0) * torch.eye(depth, dtype=table.dtype)
    return table.to(device=device, dtype=dtype)


# Cached, so that a step neither rebuilds the table nor waits for it to reach the device. Made outside inference mode,
# because autograd would refuse an inference tensor in a later training step.
_cached_kernel_weights = lru_cache(maxsize=16)(torch.inference_mode(mode=False)(_kernel_weights))
