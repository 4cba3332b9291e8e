"""WKD-L, Wasserstein distillation of logits: moving probability between similar classes costs less."""

from __future__ import annotations

from typing import Literal, Self

import torch
from torch import Tensor, nn

from stillroom.losses.checks import (
    check_feature,
    check_finite,
    check_logits,
    check_positive,
    check_reduction,
    check_target,
    check_temperature,
)
from stillroom.losses.connectors import check_whole, not_connected
from stillroom.losses.finite import can_look_at
from stillroom.losses.numerics import as_rows, log_softmax_outside, unit_rows
from stillroom.losses.protocol import settings_repr

EPSILON = 1e-8  # the published guard of the cost and of the divisions
MOST = 80.0  # exp(-80) is the smallest kernel that float32 holds with all its digits


def class_cost(weight: Tensor, *, sharpness: float = 1.0) -> Tensor:
    """Compute what it costs to move probability between two classes, from a classifier's weights.

    With the distance ``d = 1 - cosine`` of two classes' weights, the cost is ``1 - exp(-sharpness * d)``, and d itself
    for a sharpness of 0.

    Args:
        weight: (C, D) of a linear layer; no gradient reaches it.
        sharpness: kappa, at least 0; the larger, the more alike are all but the nearest classes.

    Returns:
        (C, C), float32 (float64 if the weight is), symmetric, >= 0 and 0 along the diagonal.

    Raises:
        ValueError: the weight is not (C, D) floating, or the sharpness is negative or not finite.

    Example:
        >>> class_cost(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]))
        tensor([[0.0000, 0.6321, 0.0000],
                [0.6321, 0.0000, 0.6321],
                [0.0000, 0.6321, 0.0000]])
    """
    check_feature("weight", weight, dimensions=2, shape="(C, D)")
    _check_sharpness(sharpness)
    wide = weight.detach().to(torch.float64 if weight.dtype == torch.float64 else torch.float32)
    with torch.autocast(wide.device.type, enabled=False):
        unit = unit_rows(wide)
        distance = (1 - unit @ unit.T).clamp_min(0).fill_diagonal_(0)
    return -(-sharpness * distance).expm1() if sharpness else distance


def transport_cost(
    student: Tensor, teacher: Tensor, cost: Tensor, start: Tensor, *, regularization: float, iterations: int
) -> Tensor:
    """Compute the cost of the transport plan that so many Sinkhorn iterations find between two distributions.

    With ``K = exp(-cost / regularization)`` and u = start, each iteration sets ``v = teacher / (K' u + 1e-8)`` and
    ``u = student / (K v + 1e-8)``; the plan is ``u_i K_ij v_j`` and the result ``sum_ij plan_ij cost_ij``. A class with
    probability 0 in both and a start of 0 takes no part, so that one kernel serves all samples, whatever class each of
    them leaves out. The gradient goes through all iterations.

    Args:
        student: (B, C) probabilities.
        teacher: (B, C) probabilities of the same dtype, detached.
        cost: (C, C), each above 0.
        start: (B, C) first scaling of the student's side.
        regularization: of the entropy, above 0.
        iterations: at least 1.

    Returns:
        (B,).

    Example:
        >>> student, teacher, cost = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.1, 0.9]]), 1.0 - torch.eye(2)
        >>> transport_cost(student, teacher, cost, torch.ones(1, 2), regularization=0.1, iterations=50)
        tensor([0.8000])
    """
    kernel = (-cost / regularization).exp()
    u = start
    for _ in range(iterations):
        v = teacher / (u @ kernel + EPSILON)
        u = student / (v @ kernel.T + EPSILON)
    return ((u @ (kernel * cost)) * v).sum(1)


def wkd_l(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    cost: Tensor,
    *,
    gamma: float = 600.0,
    temperature: float = 8.0,
    regularization: float = 0.05,
    iterations: int = 10,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute Wasserstein distillation's loss of logits.

    With the label y of each sample,

        WKD-L = 1/B * sum_b ( -p_y log q_y + gamma * W(q', p') )

    where p and q are the softmaxes of teacher and student at temperature 1, p' and q' those over the C - 1 classes
    other than y at temperature T, and W is the cost of the transport plan between these two that Sinkhorn's iterations
    find. W is >= 0; after 10 iterations it is small, but not 0, where the networks agree. There is no T^2. Neither the
    cross-entropy with the labels nor the published decay of gamma is included.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        target: (B,) or (...,) int64 labels in [0, C).
        cost: (C, C), of moving probability from one class to another, such as :func:`class_cost`; what is negative
            counts as 0, and no gradient reaches it.
        gamma: weight of the transport cost.
        temperature: T, above 0.
        regularization: of the entropy in the plan, above 0; the smaller, the closer to the least cost, and the more
            iterations it takes.
        iterations: of Sinkhorn's algorithm, at least 1.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        A scalar, or (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: logits, target or cost do not fit each other (shape, dtype, device, range), B = 0 or C < 2; gamma is
            not finite; temperature, regularization or iterations is out of range; a cost is so far above the
            regularization that the kernel would be 0 (checked on the CPU only); or the reduction is unknown.

    Reference:
        Lv, Yang and Li, "Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge Distillation",
        NeurIPS 2024, arXiv 2412.08139, section 3.1.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 5.0]])
        >>> cost = torch.tensor([[0.0, 0.2, 0.5], [0.2, 0.0, 0.5], [0.5, 0.5, 0.0]])
        >>> wkd_l(student, teacher, torch.tensor([2]), cost, gamma=10.0, temperature=1.0)
        tensor(0.6534)
    """
    check_logits(student_logits, teacher_logits, leading=True)
    check_target(target, student_logits)
    check_temperature(temperature)
    _check_settings(gamma, regularization, iterations)
    check_reduction(reduction)
    _check_cost(cost, student_logits, regularization)
    student, teacher = as_rows(student_logits, teacher_logits)
    label = target.reshape(-1, 1)
    on_label = -teacher.softmax(1).gather(1, label) * student.log_softmax(1).gather(1, label)
    q, p = (
        log_softmax_outside(logits / temperature, label).exp().scatter(1, label, 0.0) for logits in (student, teacher)
    )
    start = torch.full_like(teacher, 1 / (teacher.shape[1] - 1)).scatter_(1, label, 0.0)
    with torch.autocast(student.device.type, enabled=False):
        positive = cost.detach().to(student.dtype).relu() + EPSILON
        moved = transport_cost(q, p, positive, start, regularization=regularization, iterations=iterations)
    rows = on_label.squeeze(1) + gamma * moved
    return rows.mean() if reduction == "mean" else rows.reshape(target.shape)


def _check_settings(gamma: float, regularization: float, iterations: int) -> None:
    check_finite(gamma=gamma)
    check_positive(regularization=regularization)
    check_whole(1, iterations=iterations)


def _check_sharpness(sharpness: float) -> None:
    check_finite(sharpness=sharpness)
    if sharpness < 0:
        raise ValueError(f"sharpness is {sharpness}: it must be at least 0 (1.0 is usual)")


def _check_cost(cost: Tensor, student_logits: Tensor, regularization: float) -> None:
    """Refuse a cost matrix of other classes, or one whose kernel would underflow."""
    check_feature("cost", cost, dimensions=2, shape="(C, C)")
    classes = student_logits.shape[-1]
    if cost.shape != (classes, classes):
        raise ValueError(
            f"cost has shape {tuple(cost.shape)} but the logits have {classes} classes: give one cost per pair of them"
        )
    if cost.device != student_logits.device:
        raise ValueError(
            f"cost is on {cost.device} but student_logits is on {student_logits.device}: move one with .to(device)"
        )
    if can_look_at(cost) and float(cost.max()) > MOST * regularization:
        raise ValueError(
            f"cost has values up to {float(cost.max()):g}: with regularization {regularization:g} the kernel "
            f"exp(-cost / regularization) would be 0; divide the cost, or give regularization >= "
            f"{float(cost.max()) / MOST:.3g}"
        )


class WKDL(nn.Module):
    """:func:`wkd_l` with its settings and the cost from the teacher's classifier, :func:`class_cost`.

    The cost is a buffer; the teacher's classifier is read once, before training.

    Args:
        gamma: weight of the transport cost.
        temperature: T, above 0.
        sharpness: kappa of the cost, at least 0.
        regularization: of the entropy in the plan, above 0.
        iterations: of Sinkhorn's algorithm, at least 1.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> loss = WKDL(gamma=200.0).connect(teacher_head=nn.Linear(8, 10))
        >>> loss(torch.randn(4, 10), torch.randn(4, 10), torch.arange(4)).shape
        torch.Size([])
    """

    cost: Tensor | None

    per_sample = True
    teacher_offer = "probabilities"

    def __init__(
        self,
        gamma: float = 600.0,
        temperature: float = 8.0,
        sharpness: float = 1.0,
        regularization: float = 0.05,
        iterations: int = 10,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        _check_settings(gamma, regularization, iterations)
        _check_sharpness(sharpness)
        self.gamma = gamma
        self.temperature = temperature
        self.sharpness = sharpness
        self.regularization = regularization
        self.iterations = iterations
        self.register_buffer("cost", None)

    def connect(self, teacher_head: nn.Linear) -> Self:
        """Compute the cost from the weights of the linear layer that computes the teacher's logits.

        Raises:
            ValueError: the layer's weight is not (C, D).
        """
        self.cost = class_cost(teacher_head.weight, sharpness=self.sharpness)
        return self

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return :func:`wkd_l` of two (B, C) logits and (B,) labels.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        return self._run(student_logits, teacher_logits, target, "mean")

    def rows(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        return self._run(student_logits, teacher_logits, target, "none")

    def _run(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, reduction: Literal["mean", "none"]
    ) -> Tensor:
        if self.cost is None:
            raise not_connected(self, "teacher_head")
        return wkd_l(
            student_logits,
            teacher_logits,
            target,
            self.cost,
            gamma=self.gamma,
            temperature=self.temperature,
            regularization=self.regularization,
            iterations=self.iterations,
            reduction=reduction,
        )

    extra_repr = settings_repr
