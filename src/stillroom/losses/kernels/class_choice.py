"""Class choice of LDRLD: which d classes of a row are compared pair by pair, and in which order of ranks."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

# Up to this depth, NumPy's vectorised argmax taken d times beats one torch.topk on a CPU, about threefold at d = 7.
ARGMAX_ROUNDS = 32
HAS_NUMPY = find_spec("numpy") is not None  # PyTorch works without it

Chooser: TypeAlias = Literal["student", "teacher", "union"]
CHOOSERS: tuple[Chooser, ...] = get_args(Chooser)


def check_chooser(chosen_by: str) -> None:
    """Refuse a chooser that does not exist.

    Args:
        chosen_by: as in :func:`choose_classes`.

    Raises:
        ValueError: naming the choices.

    Example:
        >>> check_chooser("label")
        Traceback (most recent call last):
        ...
        ValueError: chosen_by is 'label': give 'student', 'teacher' or 'union'
    """
    if chosen_by not in CHOOSERS:
        raise ValueError(f"chosen_by is {chosen_by!r}: give 'student', 'teacher' or 'union'")


def choose_classes(student: Tensor, teacher: Tensor, depth: int, chosen_by: Chooser) -> tuple[Tensor, Tensor]:
    """Choose d classes in each row.

    "student" and "teacher" take the d largest logits of that network, in order. "union" takes d of the classes that are
    among the d largest of either network, by the mean of their two ranks: see :func:`merge_rankings`.

    Args:
        student: (B, C), floating.
        teacher: same shape.
        depth: d, 1 <= d <= C.
        chosen_by: the network or networks whose logits decide.

    Returns:
        The classes in the order of their ranks, (B, d) int64, and a copy of the student's logits with -inf at them.

    Example:
        >>> student, teacher = torch.tensor([[4.0, 3.0, 1.0, 0.0]]), torch.tensor([[0.0, 5.0, 1.0, 3.0]])
        >>> [choose_classes(student, teacher, 2, chooser)[0].tolist() for chooser in CHOOSERS]
        [[[0, 1]], [[1, 3]], [[1, 0]]]
    """
    chosen, rest = _take_largest(teacher if chosen_by == "teacher" else student, depth)
    if chosen_by == "student":
        return chosen, rest
    if chosen_by == "union":
        chosen = merge_rankings(chosen, _take_largest(teacher, depth)[0])
    return chosen, student.detach().scatter(1, chosen, -torch.inf)


def merge_rankings(first: Tensor, second: Tensor) -> Tensor:
    """Merge two rankings of d classes into one: the d classes of their union whose two ranks have the smallest mean.

    Ranks count from 1; a class that one ranking lacks has the rank d + 1 there. Of equal means, the class that the
    first ranking has further up goes first, so that no two classes are equal.

    Args:
        first: (B, d) int64, different classes in each row.
        second: same.

    Returns:
        (B, d) int64.

    Example:
        >>> merge_rankings(torch.tensor([[5, 6, 7]]), torch.tensor([[7, 8, 6]]))
        tensor([[7, 5, 6]])
    """
    depth = first.shape[1]
    own, missing = torch.arange(1, depth + 1, device=first.device), depth + 1
    same = first.unsqueeze(2) == second.unsqueeze(1)
    of_first = torch.where(same.any(2), same.int().argmax(2) + 1, missing) + own  # the sum of both ranks
    of_second = torch.where(same.any(1), 3 * missing, own + missing)  # what both have counts once
    # The second key, the rank in the first ranking, is below 2 (d + 1).
    keys = torch.cat((of_first * 2 * missing + own, of_second * 2 * missing + missing), 1)
    return torch.cat((first, second), 1).gather(1, keys.topk(depth, largest=False).indices)


def _take_largest(logits: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """Return the classes of the largest logits in order (B, depth) and a copy of the logits with -inf at them."""
    rest = logits.detach().clone()
    if not logits.is_cpu or depth > ARGMAX_ROUNDS or torch.compiler.is_compiling() or not HAS_NUMPY:
        top = rest.topk(depth).indices
        return top, rest.scatter_(1, top, -torch.inf)
    import numpy as np

    values, rows = rest.numpy(), np.arange(rest.shape[0])
    ranked = np.empty((rest.shape[0], depth), dtype=np.int64)
    for rank in range(depth):
        largest = values.argmax(1)
        ranked[:, rank] = largest
        values[rows, largest] = -np.inf
    return torch.from_numpy(ranked), rest
