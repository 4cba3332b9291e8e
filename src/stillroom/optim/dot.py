"""DOT, the distillation-oriented trainer: the gradients of the task and of the teacher have a momentum each."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from stillroom.optim.stream_optimizer import Groups, StreamOptimizer, check_settings


class DOT(StreamOptimizer):
    r"""SGD with a smaller momentum for the task than for the teacher, so that the teacher's gradients dominate.

    With :math:`m = \text{momentum}`, :math:`\delta = \text{delta}` and the weight decay :math:`\lambda`, a step is

    .. math::

        v_\text{task} \leftarrow (m - \delta)\, v_\text{task} + (1 - d)\, (g_\text{task} + \lambda w), \qquad
        w \leftarrow w - \text{lr}\; v_\text{task},

        v_\text{dist} \leftarrow (m + \delta)\, v_\text{dist} + (1 - d)\, g_\text{dist}, \qquad
        w \leftarrow w - \text{lr}\; v_\text{dist},

    where :math:`d` is the dampening. A buffer starts as its first gradient. A parameter with a gradient in one of the
    streams only, such as that of a connector, has momentum :math:`m`. Its weight decay enters that stream; in the
    distillation stream from the second step, as in the public code.

    Args:
        params: parameters or groups of them; a group may have settings of its own.
        lr: the learning rate, >= 0.
        momentum: in [0, 1], the mean of both.
        delta: momentum of the distillation minus the mean; published 0.075 (CIFAR-100) and 0.09 (ImageNet).
        weight_decay: >= 0.
        dampening: >= 0.

    Raises:
        ValueError: a setting is out of range, or ``momentum`` plus or minus ``delta`` is not in [0, 1].

    Reference:
        Zhao et al., "DOT: A Distillation-Oriented Trainer", ICCV 2023, arXiv 2307.08436.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> optimizer = DOT([weight], lr=0.1)
        >>> for _ in range(2):
        ...     optimizer.accumulate(task=weight.sum(), distillation=(weight**2).sum())
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        >>> weight.data
        tensor([0.1825, 0.6275])
    """

    streams = ("task", "distillation")
    order = streams

    def __init__(
        self,
        params: Groups,
        lr: float,
        momentum: float = 0.9,
        delta: float = 0.075,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
    ) -> None:
        check_settings(lr=lr, weight_decay=weight_decay, dampening=dampening)
        check_settings(
            **{"momentum": momentum, "momentum - delta": momentum - delta, "momentum + delta": momentum + delta}
        )
        settings = {"lr": lr, "momentum": momentum, "delta": delta}
        super().__init__(params, {**settings, "weight_decay": weight_decay, "dampening": dampening})

    def momentum_and_decay(
        self, group: dict[str, Any], stream: str, present: Collection[str], *, fresh: bool
    ) -> tuple[float, float]:
        """The stream's momentum; weight decay in the task's stream, or in the only one."""
        momentum, decay = group["momentum"], group["weight_decay"]
        if len(present) == 1:
            return momentum, 0.0 if fresh and stream == "distillation" else decay
        if stream == "task":
            return momentum - group["delta"], decay
        return momentum + group["delta"], 0.0
