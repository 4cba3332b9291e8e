"""USKD, universal self-knowledge distillation: soft labels from the student and a weak head, without a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from torch import Tensor, nn

from stillroom.losses.checks import (
    check_feature,
    check_finite,
    check_logits,
    check_pair,
    check_same_shape,
    check_target,
)
from stillroom.losses.connectors import cast_for, not_connected, place
from stillroom.losses.numerics import log_softmax_outside, widen
from stillroom.losses.protocol import settings_repr
from stillroom.losses.tensors import check_levels

if TYPE_CHECKING:
    from collections.abc import Sequence

SMOOTHING = 0.1  # of the weak head's labels, as published
EPSILON = 1e-6  # in the ranks' denominators, as published


class USKDTerms(NamedTuple):
    """The three parts of universal self-knowledge distillation, unweighted scalars."""

    target: Tensor
    non_target: Tensor
    weak: Tensor


def uskd_terms(student_logits: Tensor, weak_logits: Tensor, target: Tensor) -> USKDTerms:
    """Compute USKD's target, non-target and weak part.

    With y the label, q and w the softmaxes of student and weak logits, and means over the batch:

    - target: mean of ``-u log q_y`` with ``u = q_y^2 + 1 - mean(q_y^2)``, a constant to the gradient;
    - non-target: mean of ``-sum_{c != y} r_c log q^_c``, q^ the student's softmax over the C - 1 other classes, and
      r proportional to 1 / rank of class c (Zipf's law), made to sum to 1 without y. Classes are ranked, y among
      them, by ``w_c / (1 - w_y + 1e-6) + log q_c / (1 - log q_y + 1e-6)``, largest first; equal ones by class;
    - weak: mean cross-entropy of w with labels smoothed by 0.1.

    The first two give the student's logits a gradient, the last one the weak logits.

    Args:
        student_logits: (B, C), any floating dtype; computed in float32 at least.
        weak_logits: (B, C), of a linear layer on a pooled middle feature.
        target: (B,) int64 labels in [0, C).

    Returns:
        Three scalars, float32 (float64 if an input is).

    Raises:
        ValueError: logits or target do not fit each other (shape, dtype, device, range), B = 0 or C < 2.

    Example:
        >>> student, weak = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[2.0, 1.0, 1.0]])
        >>> target, non_target, weak = uskd_terms(student, weak, torch.tensor([0]))
        >>> target, non_target, weak
        (tensor(0.4076), tensor(0.7133), tensor(0.6181))
    """
    check_logits(student_logits, student_logits)
    check_feature("weak_logits", weak_logits, dimensions=2, shape="(B, C)")
    check_pair("student_logits", student_logits, "weak_logits", weak_logits)
    fix = "both need (B, C) for the same samples and the same classes"
    check_same_shape("weak_logits", weak_logits, "student_logits", student_logits, fix=fix)
    check_target(target, student_logits)
    student, _ = widen(student_logits, weak_logits)
    label = target.unsqueeze(1)
    log_q, log_w = student.log_softmax(1), weak_logits.to(student.dtype).log_softmax(1)
    own = log_q.gather(1, label).squeeze(1)
    square = (2.0 * own.detach()).exp()
    target_part = -((square + 1.0 - square.mean()) * own).mean()
    weak_part = -((1.0 - SMOOTHING) * log_w.gather(1, label).squeeze(1) + SMOOTHING * log_w.mean(1)).mean()
    weights = _zipf_weights(log_q.detach(), log_w.detach(), label)
    return USKDTerms(target_part, -(weights * log_softmax_outside(student, label)).sum(1).mean(), weak_part)


def uskd(
    student_logits: Tensor,
    weak_logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 0.1,
    mu: float = 0.005,
) -> Tensor:
    """Compute universal self-knowledge distillation's loss.

    USKD = alpha * target part + beta * non-target part + mu * weak part, see :func:`uskd_terms`. There is no
    teacher. The cross-entropy of the student with the labels is not included. It is not a mean over samples: the
    target part compares each sample with the batch.

    Args:
        student_logits: (B, C), any floating dtype; computed in float32 at least.
        weak_logits: (B, C), of a linear layer on a pooled middle feature.
        target: (B,) int64 labels in [0, C).
        alpha: weight of the target part.
        beta: weight of the non-target part.
        mu: weight of the weak part, which alone trains the weak head.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: as :func:`uskd_terms`, or a weight is not finite.

    Reference:
        Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with
        Normalized Loss and Customized Soft Labels", ICCV 2023, arXiv 2303.13005.

    Example:
        >>> student, weak = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[2.0, 1.0, 1.0]])
        >>> uskd(student, weak, torch.tensor([0]))
        tensor(0.4820)
    """
    check_finite(alpha=alpha, beta=beta, mu=mu)
    terms = uskd_terms(student_logits, weak_logits, target)
    return alpha * terms.target + beta * terms.non_target + mu * terms.weak


class USKD(nn.Module):
    """:func:`uskd` with its weights and its weak head: a linear layer on one of the student's maps, pooled.

    Args:
        layer: the level that the weak head classifies, from 1 (shallowest) or from -1 (deepest); published: -2.
        alpha: weight of the target part.
        beta: weight of the non-target part.
        mu: weight of the weak part.

    Raises:
        ValueError: layer is 0 or no whole number, or a weight is not finite.

    Example:
        >>> maps = [torch.rand(2, 4, 8, 8), torch.rand(2, 8, 4, 4)]
        >>> module = USKD().connect(maps, torch.rand(2, 10))
        >>> module.weak_head, module(torch.rand(2, 10), maps, torch.tensor([0, 1])).shape
        (Linear(in_features=4, out_features=10, bias=True), torch.Size([]))
    """

    weak_head: nn.Linear | None

    def __init__(self, layer: int = -2, alpha: float = 1.0, beta: float = 0.1, mu: float = 0.005) -> None:
        super().__init__()
        if isinstance(layer, bool) or not isinstance(layer, int) or layer == 0:
            raise ValueError(f"layer is {layer}: count levels from 1 (shallowest), or from -1 (deepest)")
        check_finite(alpha=alpha, beta=beta, mu=mu)
        self.layer = layer
        self.alpha = alpha
        self.beta = beta
        self.mu = mu
        self.weak_head = None

    def connect(self, student_maps: Sequence[Tensor], student_logits: Tensor) -> Self:
        """Build the weak head, from the chosen map's channels to the logits' classes.

        Args:
            student_maps: an example of each level, (B, D, H, W).
            student_logits: (B, C), an example.

        Raises:
            ValueError: there is no such level, or an example has another form.
        """
        check_logits(student_logits, student_logits)
        middle = self._middle(student_maps)
        self.weak_head = place(nn.Linear(middle.shape[1], student_logits.shape[1]), middle)
        return self

    def forward(self, student_logits: Tensor, student_maps: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return :func:`uskd` of (B, C) logits, one of a tuple of maps, and (B,) labels.

        Raises:
            RuntimeError: :meth:`connect` was not called.
            ValueError: there is no such level, or as :func:`uskd`.
        """
        if self.weak_head is None:
            raise not_connected(self, "student_maps, student_logits")
        middle = self._middle(student_maps)
        # The mean of a half-precision map is taken in float32, as a sum of many cells could leave its range.
        pooled = middle.mean((2, 3), dtype=torch.promote_types(middle.dtype, torch.float32))
        weak = self.weak_head(cast_for(self.weak_head, pooled))
        return uskd(student_logits, weak, target, alpha=self.alpha, beta=self.beta, mu=self.mu)

    def _middle(self, student_maps: Sequence[Tensor]) -> Tensor:
        check_levels("student_maps", student_maps)
        levels = len(student_maps)
        if abs(self.layer) > levels:
            raise ValueError(
                f"layer is {self.layer} but student_maps has {levels} levels: "
                f"choose 1 to {levels} or -1 to -{levels}, or give more maps"
            )
        index = self.layer - 1 if self.layer > 0 else self.layer
        check_feature(f"student_maps[{index}]", student_maps[index], dimensions=4, shape="(B, C, H, W)")
        return student_maps[index]

    extra_repr = settings_repr


def _zipf_weights(log_q: Tensor, log_w: Tensor, label: Tensor) -> Tensor:
    """1 / rank of each class, 0 for the label's, made to sum to 1 over each row."""
    own_q, own_w = log_q.gather(1, label), log_w.gather(1, label)
    score = log_w.exp() / (1.0 - own_w.exp() + EPSILON) + log_q / (1.0 - own_q + EPSILON)
    order = score.argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(1) + 1
    weights = rank.to(log_q.dtype).reciprocal().scatter(1, label, 0.0)
    return weights / weights.sum(1, keepdim=True)
