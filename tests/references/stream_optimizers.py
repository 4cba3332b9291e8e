"""DOT and DeepKD number by number: one weight at a time, every rule written out."""

from __future__ import annotations

from collections.abc import Sequence

Gradients = Sequence[float | None]  # of one weight in one step, stream by stream


def dot(
    weight: float, steps: Sequence[Gradients], *, lr: float, momentum: float, delta: float, weight_decay: float = 0.0
) -> list[float]:
    """The weight after each step; a step has the gradients of task and teacher."""
    task_buffer = teacher_buffer = None
    after = []
    for of_task, of_teacher in steps:
        if of_task is not None:
            mu = momentum - delta if of_teacher is not None else momentum
            pull = of_task + weight_decay * weight
            task_buffer = pull if task_buffer is None else mu * task_buffer + pull
            weight -= lr * task_buffer
        if of_teacher is not None:
            mu = momentum + delta if of_task is not None else momentum
            pull = of_teacher
            if of_task is None and teacher_buffer is not None:
                pull += weight_decay * weight
            teacher_buffer = pull if teacher_buffer is None else mu * teacher_buffer + pull
            weight -= lr * teacher_buffer
        after.append(weight)
    return after


def deepkd(
    weight: float,
    steps: Sequence[Gradients],
    *,
    lr: float,
    momentum: float,
    deltas: Sequence[float],
    weight_decay: float = 0.0,
) -> list[float]:
    """The weight after each step as the paper has it; a step has the gradients of task, target and other classes."""
    buffers: list[float | None] = [None, None, None]
    after = []
    for step in steps:
        here = [i for i in range(3) if step[i] is not None]
        for i in (0, 2, 1):
            if step[i] is None:
                continue
            pull = step[i]
            decayed = here == [i] or i == 0 or (i == 2 and step[0] is None)
            if decayed:
                pull += weight_decay * weight
            mu = momentum if here == [i] else momentum + deltas[i]
            buffers[i] = pull if buffers[i] is None else mu * buffers[i] + pull
            weight -= lr * buffers[i]
        after.append(weight)
    return after
