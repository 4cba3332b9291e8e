"""Foreground: a logit loss without the background class, the first column of the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_logits, check_target
from stillroom.losses.protocol import Offer, connect_needs_of, needs_of, properties_of
from stillroom.losses.tensors import check_tensor

TAKEN = ("student_logits", "teacher_logits", "target", "epoch")


def foreground(logits: Tensor) -> Tensor:
    """Return the logits of the classes, without background in column 0.

    The softmax over what is left is the distribution over the classes of a region that holds an object.

    Args:
        logits: (R, 1 + C), background first, C >= 2.

    Returns:
        (R, C), a view.

    Raises:
        ValueError: logits is no tensor of shape (R, 1 + C) with C >= 2.

    Example:
        >>> foreground(torch.tensor([[9.0, 1.0, 2.0]]))
        tensor([[1., 2.]])
    """
    check_tensor("logits", logits)
    if logits.ndim != 2 or logits.shape[1] < 3:
        raise ValueError(
            f"logits has shape {tuple(logits.shape)}: give (R, 1 + C) with background in column 0 and C >= 2 classes"
        )
    return logits[:, 1:]


class Foreground(nn.Module):
    """Another logit loss on logits whose first column, background, is left out.

    A loss that reads labels sees the rows of objects only, with labels counted without background. Where there is no
    such row, it is 0. A loss that reads no labels sees all rows, those of background regions, too.

    Foreground has the inner loss's parameters and declares what the inner loss declares.

    Args:
        loss: a module whose ``forward`` takes ``student_logits`` and perhaps ``teacher_logits``, ``target`` and
            ``epoch``.

    Attributes:
        needs: the names of what the inner loss takes, in its order.

    Raises:
        ValueError: the loss takes anything else, or as :func:`stillroom.losses.protocol.properties_of`.

    Example:
        >>> from stillroom.losses import KD
        >>> Foreground(KD())
        Foreground(
          (loss): KD(temperature=4.0)
        )
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        needs = needs_of(loss)
        connects = connect_needs_of(loss)
        if "student_logits" not in needs or not {*needs} <= {*TAKEN} or not {*connects} <= {"teacher_logits"}:
            reads = ", ".join(dict.fromkeys((*needs, *connects)))
            raise ValueError(
                f"loss is {type(loss).__name__}, which takes {reads}: give one that takes {', '.join(TAKEN)} at most"
            )
        self.loss = loss
        self.needs = needs
        inner = properties_of(loss)
        # The mean over the rows of objects is no mean over all rows.
        self.per_sample, self.draws = inner.per_sample and "target" not in needs, inner.draws
        self.initial_epochs, self.final_epoch = inner.initial_epochs, inner.final_epoch
        # A constant added to all logits stays one. Of the largest probabilities alone, background may be one.
        self.teacher_offer: Offer = "logits" if inner.teacher_offer == "logits" else "probabilities"

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None = None,
        target: Tensor | None = None,
        epoch: int = 1,
    ) -> Tensor:
        """Return the inner loss of (B, 1 + C) logits without their first column.

        Args:
            student_logits: (B, 1 + C), background first.
            teacher_logits: the same shape; only needed where the inner loss takes them.
            target: (B,), int64, 0 for background; only needed where the inner loss takes labels.
            epoch: goes on to the inner loss.

        Returns:
            The inner loss; 0 with a gradient of zeros where it reads labels and no row has an object.

        Raises:
            ValueError: the inputs do not fit each other, something is missing, or the inner loss refuses its input.
        """
        given: dict[str, Any] = {"student_logits": student_logits, "teacher_logits": teacher_logits, "target": target}
        missing = next((name for name in self.needs if name in given and given[name] is None), None)
        if missing is not None:
            raise ValueError(f"{missing} is None: {type(self.loss).__name__} reads it")
        check_logits(student_logits, student_logits if teacher_logits is None else teacher_logits)
        inputs: dict[str, Any] = {"student_logits": foreground(student_logits)}
        if teacher_logits is not None:
            inputs["teacher_logits"] = foreground(teacher_logits.detach())
        if target is not None and "target" in self.needs:
            check_target(target, student_logits)
            objects = target > 0
            inputs = {name: logits[objects] for name, logits in inputs.items()} | {"target": target[objects] - 1}
            if not len(inputs["target"]):
                nothing: Tensor = inputs["student_logits"]
                return nothing.sum(dtype=torch.promote_types(student_logits.dtype, torch.float32))
        inputs["epoch"] = epoch
        loss: Tensor = self.loss(**{name: inputs[name] for name in self.needs})
        return loss

    @property
    def connect(self) -> Callable[..., nn.Module] | None:
        """The inner loss's ``connect``; None where it has none."""
        return self._connect if connect_needs_of(self.loss) else None

    def _connect(self, teacher_logits: Tensor) -> Foreground:
        build: Any = self.loss.connect
        build(foreground(teacher_logits))
        return self
