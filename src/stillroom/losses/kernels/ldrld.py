"""LDRLD in closed form: loss and gradient from one pass, and the plain computation it must equal.

Both functions take finished weights (see :mod:`stillroom.losses.logit.ldrld`) and return

    T^2 ( sum_{i<j} W_ij K_ij + w_llki LLKI + w_rntk RNTK + w_mass M )

as its mean over samples or, with ``reduction="none"``, sample by sample. The first two weights are in one symmetric
(d, d) table: W_ij off its diagonal, w_llki along it. M is the KL between the two-way softmaxes over (the d classes, all
others); the logit of a set is the logarithm of the sum over its classes of exp(logit / T).

The gradient consists of softmax differences: d KL(p || q) / dz = (q - p) / T. The forward pass has p and q, so it
computes the whole gradient, and backward multiplies it by the upstream gradient, one number or one per sample.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from stillroom.losses.given_gradient import wants_gradient, with_gradient
from stillroom.losses.kernels.class_choice import Chooser, choose_classes
from stillroom.losses.numerics import kl_binary, kl_rows, log_softmax_outside

LN_2 = math.log(2.0)

Backend: TypeAlias = Literal["torch", "numba"]


def check_backend(backend: str) -> None:
    """Refuse a backend that does not exist or is not installed.

    Args:
        backend: as in :func:`ldrld_closed_form`.

    Raises:
        ValueError: naming the choices, or what to install.

    Example:
        >>> check_backend("jax")
        Traceback (most recent call last):
        ...
        ValueError: backend is 'jax': give 'torch' or 'numba'
    """
    if backend not in ("torch", "numba"):
        raise ValueError(f"backend is {backend!r}: give 'torch' or 'numba'")
    if backend == "numba" and find_spec("numba") is None:
        raise ValueError("backend is 'numba' but Numba is not installed: pip install 'stillroom[numba]', or 'torch'")


def ldrld_closed_form(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor,
    rntk_weight: float,
    temperature: float,
    reduction: Literal["mean", "none"] = "mean",
    backend: Backend = "torch",
    chosen_by: Chooser = "student",
    mass_weight: float = 0.0,
) -> Tensor:
    """Compute weighted LDRLD with its gradient in one pass.

    Double backward is not available. Memory beyond the arguments: with PyTorch's operations four (B, C) tensors, one
    of which is kept for backward (and made only where ``student`` needs a gradient), and O(B d^2); with Numba the one.

    Args:
        student: (B, C), float32 or float64.
        teacher: same shape and dtype, detached.
        weights: (d, d), symmetric: W_ij of the pairs off the diagonal, w_llki all along it; 2 <= d <= C.
        rntk_weight: weight of the KL over the C - d others.
        temperature: above 0.
        reduction: "none" keeps one loss per sample.
        backend: "numba" uses one compiled function for float32 on the CPU, outside torch.compile and without a mass
            term; everything else uses PyTorch's operations, as with "torch".
        chosen_by: as in :func:`~stillroom.losses.kernels.class_choice.choose_classes`.
        mass_weight: weight of the KL between the masses of the d classes and of the others.

    Returns:
        The loss of the same dtype, a scalar or (B,).

    Example:
        >>> student, teacher = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[0.0, 1.0, 2.0]])
        >>> weights = torch.tensor([[0.5, 1.0], [1.0, 0.5]])
        >>> fused = ldrld_closed_form(student, teacher, weights, 1.0, 4.0)
        >>> torch.allclose(fused, ldrld_reference(student, teacher, weights, 1.0, 4.0))
        True
    """
    fits = student.is_cpu and student.dtype == torch.float32 and not torch.compiler.is_compiling()
    numba = backend == "numba" and fits and mass_weight == 0
    wanted = wants_gradient(student)
    loss, gradient = _evaluate(
        student.detach(), teacher, weights, rntk_weight, mass_weight, temperature, reduction == "mean", numba,
        chosen_by, want_gradient=wanted,
    )  # fmt: skip
    return with_gradient(student, loss, gradient) if wanted else loss


def ldrld_reference(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor,
    rntk_weight: float,
    temperature: float,
    reduction: Literal["mean", "none"] = "mean",
    chosen_by: Chooser = "student",
    mass_weight: float = 0.0,
) -> Tensor:
    """Compute weighted LDRLD with ordinary autograd: same arguments, same value, more memory and time.

    Args:
        student: (B, C), float32 or float64.
        teacher: same shape and dtype, detached.
        weights: (d, d), symmetric: W_ij of the pairs off the diagonal, w_llki all along it.
        rntk_weight: weight of the KL over the C - d others.
        temperature: above 0.
        reduction: "none" keeps one loss per sample.
        chosen_by: as in :func:`~stillroom.losses.kernels.class_choice.choose_classes`.
        mass_weight: weight of the KL between the masses of the d classes and of the others.

    Returns:
        The loss of the same dtype, a scalar or (B,), differentiable as often as wanted.

    Example:
        >>> logits = torch.tensor([[2.0, 1.0, 0.0]])
        >>> ldrld_reference(logits, logits, torch.zeros(2, 2), 1.0, 4.0)
        tensor(0.)
    """
    depth = weights.shape[0]
    top, _ = choose_classes(student, teacher, depth, chosen_by)
    z_student, z_teacher = student / temperature, teacher / temperature
    first, second = torch.triu_indices(depth, depth, offset=1, device=student.device)
    local_student, local_teacher = z_student.gather(1, top), z_teacher.gather(1, top)
    pairs = kl_binary(
        local_student[:, first] - local_student[:, second], local_teacher[:, first] - local_teacher[:, second]
    )
    llki = kl_rows(local_student.log_softmax(1), local_teacher.log_softmax(1))
    rows = (pairs * weights[first, second]).sum(1) + weights[0, 0] * llki
    if depth < student.shape[1]:
        rntk = kl_rows(log_softmax_outside(z_student, top), log_softmax_outside(z_teacher, top))
        gaps = [
            z.gather(1, top).logsumexp(1) - z.scatter(1, top, -torch.inf).logsumexp(1) for z in (z_student, z_teacher)
        ]
        rows = rows + rntk_weight * rntk + mass_weight * kl_binary(*gaps)
    return (rows.mean() if reduction == "mean" else rows) * temperature**2


def _evaluate(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor,
    rntk_weight: float,
    mass_weight: float,
    temperature: float,
    mean: bool,
    numba: bool,
    chosen_by: Chooser,
    *,
    want_gradient: bool,
) -> tuple[Tensor, Tensor]:
    """Return the loss, mean or (B,), and the gradient of its sum (empty or partial if it is not wanted)."""
    if numba:
        from stillroom.losses.kernels.ldrld_numba import loss_and_gradient

        return loss_and_gradient(student, teacher, weights, rntk_weight, temperature, mean, chosen_by)
    (batch, classes), depth = student.shape, weights.shape[0]
    slope = temperature / batch if mean else temperature
    gradient = student.new_empty(0)
    top, rest_student = choose_classes(student, teacher, depth, chosen_by)
    selected = torch.stack((student.gather(1, top), teacher.gather(1, top)))
    top_logits = selected.transpose(1, 2).contiguous().mul_(1.0 / temperature)
    loss, local_gradient = _local(top_logits, weights, mean)
    # One remaining class has probability 1 under both networks: RNTK has nothing to compare.
    if (rntk_weight != 0 and depth < classes - 1) or (mass_weight != 0 and depth < classes):
        rest = _softmax_parts(rest_student, temperature)
        rest_teacher = _softmax_parts(teacher.scatter(1, top, -torch.inf), temperature)
        rise: Tensor | float = rntk_weight * slope
        falls = rise
        if mass_weight != 0:
            mass, push = _mass(top_logits, rest.log_sum(), rest_teacher.log_sum(), mass_weight, mean)
            loss = loss + mass
            local_gradient = local_gradient.addcmul(push, top_logits[0].softmax(0))
            rise = rise - push.unsqueeze(1).mul(slope)
        # A selected class has -inf - -inf = NaN here, and its weight 0 would not remove the NaN.
        gaps = rest_teacher.z.sub_(rest.z).scatter_(1, top, 0.0)
        bits = gaps.mul_(rest_teacher.power).sum(1, keepdim=True).div_(rest_teacher.total)
        bits.add_((rest.total / rest_teacher.total).log2_())
        loss = loss.add(bits.sum() if mean else bits.squeeze(1), alpha=rntk_weight * LN_2)
        if want_gradient:
            # Two rounded products, not one fused product: where the networks agree the difference is exactly 0.
            gradient = rest.power.mul_(rest.total.reciprocal().mul_(rise))
            gradient.sub_(rest_teacher.power.mul_(rest_teacher.total.reciprocal().mul_(falls)))
    elif want_gradient:
        gradient = torch.zeros_like(student)
    if want_gradient:
        gradient.scatter_(1, top, local_gradient.t().mul_(slope))
    return loss * (slope * temperature), gradient


def _mass(
    top_logits: Tensor, student_rest: Tensor, teacher_rest: Tensor, weight: float, total: bool
) -> tuple[Tensor, Tensor]:
    """Return the weighted KL of the masses, (B,) or their total, and its slope in the student's difference, (B,).

    ``top_logits`` is (2, d, B); the rests are the logarithms of the sums over the other classes, (B,).
    """
    gap, teacher_gap = top_logits.logsumexp(1).sub_(torch.stack((student_rest, teacher_rest)))
    mass = kl_binary(gap, teacher_gap)
    return (mass.sum() if total else mass).mul(weight), gap.sigmoid().sub_(teacher_gap.sigmoid()).mul_(weight)


def _local(top_logits: Tensor, weights: Tensor, total: bool) -> tuple[Tensor, Tensor]:
    """Return pairs plus LLKI, (B,) or their total, and the gradient (d, B), from student and teacher (2, d, B).

    Off the diagonal, (i, j) and (j, i) are the two outcomes of one two-way softmax, so summing
    ``p_ij (log p_ij - log q_ij)`` over both is K_ij. The diagonal holds the d outcomes of the softmax over all selected
    classes, whose sum is LLKI. In both cases the gradient for rank i is row i of ``q - p``. The batch comes last,
    because the short sums over ranks then run over whole vectors of samples.
    """
    logs = functional.logsigmoid(top_logits.unsqueeze(2) - top_logits.unsqueeze(1))
    logs.diagonal(dim1=1, dim2=2).copy_(top_logits.log_softmax(1).transpose(1, 2))
    log_q, log_p = logs.unbind()
    p = log_p.exp()
    parts = (log_p - log_q).mul_(p)
    loss = parts.sum(2).mul_(weights).sum() if total else parts.mul_(weights.unsqueeze(2)).sum((0, 1))
    return loss, log_q.exp().sub_(p).mul_(weights.unsqueeze(2)).sum(1)


class _SoftmaxParts(NamedTuple):
    """z = (logits - row maximum) / (T ln 2), 2^z, and (B, 1): the row sums of 2^z, and the row maximum / T."""

    z: Tensor
    power: Tensor
    total: Tensor
    largest: Tensor

    def log_sum(self) -> Tensor:
        """The logarithm of the row sums of exp(logits / T), (B,)."""
        return self.total.log().add_(self.largest).squeeze(1)


def _softmax_parts(logits: Tensor, temperature: float) -> _SoftmaxParts:
    """Return the parts of a softmax; ``logits`` is overwritten by z.

    Powers of two because torch.exp2 takes half the time of torch.exp; a KL counted in bits needs one factor.
    """
    largest = logits.amax(1, keepdim=True)
    z = logits.sub_(largest).mul_(1.0 / (temperature * LN_2))
    power = z.exp2()
    return _SoftmaxParts(z, power, power.sum(1, keepdim=True), largest.div_(temperature))
