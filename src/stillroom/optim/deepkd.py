"""DeepKD: the gradients of the task, of the target class and of the other classes have a momentum each."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from stillroom.optim.stream_optimizer import Groups, StreamOptimizer, check_settings


class DeepKD(StreamOptimizer):
    r"""SGD with three streams: the task, and the target part and the non-target part of a distillation loss.

    Each stream has the momentum :math:`m + \delta` with a :math:`\delta` of its own; the rest is as in
    :class:`stillroom.optim.DOT`. The weight decay enters the task's stream. A parameter with a gradient in one stream
    only has momentum :math:`m`, and its weight decay enters that stream.

    With ``as_coded`` a step is that of the public code, which differs from the paper: a parameter with gradients in all
    streams has the target's momentum in the task's stream, too, so that ``task_delta`` has no effect; the order is
    task, non-target, target; and the weight decay enters the target's stream, with the parameter that the other two
    have moved. Parameters without a gradient in some stream have other streams' momenta, or the mean of all three; with
    a gradient in the target's stream only, the weight decay counts twice.

    Args:
        params: parameters or groups of them; a group may have settings of its own.
        lr: the learning rate, >= 0.
        momentum: :math:`m`, in [0, 1].
        task_delta: of the task's momentum; published 0.075.
        target_delta: of the target's; published -0.075.
        non_target_delta: of the other classes'; published 0.05, for some pairs 0.075.
        weight_decay: >= 0.
        dampening: >= 0.
        as_coded: as the public code does it. For exact reproduction only.

    Raises:
        ValueError: a setting is out of range, or a momentum is not in [0, 1].

    Reference:
        Huang et al., "DeepKD: A Deeply Decoupled and Denoised Knowledge Distillation Trainer", NeurIPS 2025, arXiv
        2505.15133.

    Example:
        >>> import torch
        >>> from stillroom.losses.logit.dkd import dkd_terms
        >>> student, images, labels = torch.nn.Linear(4, 3), torch.rand(5, 4), torch.arange(5) % 3
        >>> teacher_logits = torch.randn(5, 3)
        >>> optimizer = DeepKD(student.parameters(), lr=0.05)
        >>> logits = student(images)
        >>> parts = dkd_terms(logits, teacher_logits, labels)
        >>> ce = torch.nn.functional.cross_entropy(logits, labels)
        >>> optimizer.accumulate(task=ce, target=parts.target, non_target=8 * parts.non_target)
        >>> optimizer.step()
        >>> optimizer.zero_grad()
    """

    streams = ("task", "target", "non_target")
    order = ("task", "non_target", "target")

    def __init__(
        self,
        params: Groups,
        lr: float,
        momentum: float = 0.9,
        task_delta: float = 0.075,
        target_delta: float = -0.075,
        non_target_delta: float = 0.05,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
        as_coded: bool = False,
    ) -> None:
        deltas = {"task_delta": task_delta, "target_delta": target_delta, "non_target_delta": non_target_delta}
        check_settings(lr=lr, momentum=momentum, weight_decay=weight_decay, dampening=dampening)
        check_settings(**{f"momentum + {name}": momentum + delta for name, delta in deltas.items()})
        settings = {"lr": lr, "momentum": momentum, **deltas, "weight_decay": weight_decay}
        super().__init__(params, {**settings, "dampening": dampening, "as_coded": as_coded})

    def momentum_and_decay(
        self, group: dict[str, Any], stream: str, present: Collection[str], *, fresh: bool
    ) -> tuple[float, float]:
        """The stream's momentum; weight decay in the task's stream, or in the only one."""
        momenta = {name: group["momentum"] + group[f"{name}_delta"] for name in self.streams}
        decay = group["weight_decay"]
        if group["as_coded"]:
            return _as_coded(momenta, decay, stream, present, fresh=fresh)
        if len(present) == 1:
            return group["momentum"], decay
        enters = "task" if "task" in present else "non_target"
        return momenta[stream], decay if stream == enters else 0.0


# The streams that the public code tests, in turn: the first one in which the parameter has a gradient, too, gives the
# momentum behind the colon.
_TESTED = {
    "task": {"target": "target", "non_target": "non_target"},
    "non_target": {"task": "non_target", "target": "target"},
    "target": {"task": "target", "non_target": "non_target"},
}


def _as_coded(
    momenta: dict[str, float], decay: float, stream: str, present: Collection[str], *, fresh: bool
) -> tuple[float, float]:
    """Momentum and weight decay of the public code."""
    if stream == "task" and momenta["task"] == 0:
        return 0.0, 0.0
    partner = next((other for other in _TESTED[stream] if other in present), None)
    momentum = sum(momenta.values()) / 3 if partner is None else momenta[_TESTED[stream][partner]]
    alone = partner is None and stream != "task" and not fresh
    return momentum, decay * ((stream == "target") + alone)
