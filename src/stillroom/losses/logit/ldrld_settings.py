"""Settings of LDRLD, and the weights of its pairs of ranks that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stillroom.losses.checks import check_finite, check_temperature
from stillroom.losses.kernels.class_choice import Chooser, check_chooser
from stillroom.losses.kernels.ldrld import Backend, check_backend

PUBLISHED_DEPTH = 7


@dataclass(frozen=True)
class LDRLDSettings:
    """The settings of :func:`stillroom.losses.ldrld`, which documents them. They are checked when they are created.

    Raises:
        ValueError: a setting is out of range (a depth above C shows only with the logits).
    """

    depth: int | None = None
    temperature: float = 4.0
    alpha: float = 10.5
    beta: float = 7.0
    delta: float = 2.0
    epsilon: float = 1.5
    decay: float = 0.05
    average: bool = True
    pairs: bool = True
    irw: bool = True
    erd: bool = True
    llki: bool = True
    rntk: bool = True
    backend: Backend = "torch"
    chosen_by: Chooser = "student"
    mass: float = 0.0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_finite(
            alpha=self.alpha, beta=self.beta, delta=self.delta, epsilon=self.epsilon, decay=self.decay, mass=self.mass
        )
        if self.epsilon <= -1.0:
            raise ValueError(
                f"epsilon is {self.epsilon}: it must be above -1, so that 1 / (|i - j| + epsilon) is positive"
            )
        if self.depth is not None:
            _check_depth(self.depth)
        check_chooser(self.chosen_by)
        if self.backend != "torch":
            check_backend(self.backend)

    def depth_for(self, classes: int) -> int:
        """The depth for logits of so many classes.

        Raises:
            ValueError: the depth is above the number of classes.
        """
        depth = min(PUBLISHED_DEPTH, classes) if self.depth is None else self.depth
        if depth > classes:
            raise ValueError(
                f"depth is {depth} but student_logits has C = {classes} classes: "
                "lower depth, it pairs the top classes and needs 2 <= depth <= C"
            )
        return depth


def adaptive_decay_weights(depth: int, settings: LDRLDSettings | None = None) -> Tensor:
    """Tabulate the weight of each pair of ranks.

    ``Omega(i, j) = IRW * ERD = 1 / (|i - j| + epsilon) * delta * exp(-decay * (i + j))``, ranks from 1.

    Args:
        depth: number of ranks d, at least 2.
        settings: delta, epsilon, decay, irw and erd are read; the published ones if None.

    Returns:
        (d, d) float64, symmetric, 0 on the diagonal; entry [i - 1, j - 1] is Omega(i, j).

    Raises:
        ValueError: depth is below 2.

    Reference:
        "Local Dense Relational Logit Distillation", ICCV 2025, arXiv 2507.15911, adaptive decay weight.

    Example:
        >>> adaptive_decay_weights(3)[0]
        tensor([0.0000, 0.6886, 0.4678], dtype=torch.float64)
    """
    _check_depth(depth)
    settings = settings or LDRLDSettings()
    ranks = torch.arange(1, depth + 1, dtype=torch.float64)
    row, column = ranks.unsqueeze(1), ranks.unsqueeze(0)
    weights = 1.0 - torch.eye(depth, dtype=torch.float64)
    if settings.irw:
        weights = weights / ((row - column).abs() + settings.epsilon).where(row != column, 1.0)
    if settings.erd:
        weights = weights * (settings.delta * (-settings.decay * (row + column)).exp())
    return weights


def _check_depth(depth: int) -> None:
    if not isinstance(depth, int) or depth < 2:
        raise ValueError(f"depth is {depth!r}: it must be a whole number with 2 <= depth <= C (7 is usual)")
