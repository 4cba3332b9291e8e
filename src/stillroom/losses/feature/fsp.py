"""FSP, flow of solution procedure: Gram matrices between consecutive levels learn the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_maps
from stillroom.losses.connectors import check_whole
from stillroom.losses.finite import can_look_at, check_result
from stillroom.losses.maps import same_size
from stillroom.losses.numerics import widen
from stillroom.losses.protocol import settings_repr


def fsp(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Compute the loss on the flow of solution procedure.

    For consecutive levels a, b of one network, with the larger map average-pooled to the smaller, the flow matrix
    of a sample is ``G[i, j] = mean_hw a[i, h, w] b[j, h, w]``. The loss is the mean over samples and entries of
    ``(G_s - G_t)^2``, summed over the pairs of consecutive levels; >= 0, and 0 where the flows agree. Entries are
    compared one by one, so both networks need the same channels; their heights and widths may differ.

    The values are products of activations, not normalised: doubling all maps of both networks multiplies the loss
    by 16.

    Args:
        student_maps: two or more (B, C_l, H, W), any floating dtype; computed in float32 at least.
        teacher_maps: as many, with the same channels level by level; no gradient reaches them.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: there are fewer than two levels, or channels differ; a map is not (B, C, H, W) floating or is
            empty; or the networks disagree in the number of levels, batch or device.

    Reference:
        Yim et al., "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer
        Learning", CVPR 2017.

    Example:
        >>> import torch
        >>> student, teacher = [torch.ones(1, 1, 2, 2), torch.ones(1, 2, 1, 1)], [torch.ones(1, 1, 2, 2)] * 2
        >>> fsp(student, student)
        tensor(0.)
        >>> fsp(teacher, [2 * m for m in teacher])
        tensor(9.)
        >>> fsp(student, teacher)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: student_maps[1] has 2 channels but teacher_maps[1] has 1: ...
    """
    check_maps(student_maps, teacher_maps)
    _check_levels(student_maps, teacher_maps)
    pairs = [widen(*pair) for pair in zip(student_maps, teacher_maps, strict=True)]
    flows = []
    for (student, teacher), (next_student, next_teacher) in pairwise(pairs):
        difference = _flow(student, next_student) - _flow(teacher, next_teacher)
        flows.append(difference.square().mean())
    loss = check_result(torch.stack(flows).sum(), student_maps=student_maps, teacher_maps=teacher_maps)
    if can_look_at(loss):
        # A flow's gradient is a difference of flows times a map, which may overflow where the squares do not.
        wide = all(student.dtype == torch.float64 for student in student_maps)
        peak = torch.stack([student.detach().abs().max() for student, _ in pairs]).max()
        slope = loss.detach().sqrt() * peak
        check_result(slope.to(torch.float64 if wide else torch.float32), student_maps=student_maps)
    return loss


class FSP(nn.Module):
    """:func:`fsp` over the levels.

    Args:
        initial_epochs: 0 trains the term beside the label loss throughout. The published method has two stages
            instead: this term alone for so many epochs (30 in the usual CIFAR benchmark), then the labels alone.

    Raises:
        ValueError: initial_epochs is not a whole number from 0.

    Example:
        >>> FSP(initial_epochs=30)
        FSP(initial_epochs=30)
    """

    per_sample = True

    def __init__(self, initial_epochs: int = 0) -> None:
        super().__init__()
        check_whole(0, initial_epochs=initial_epochs)
        self.initial_epochs = initial_epochs
        self.final_epoch: int | None = initial_epochs or None

    def forward(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
        """Return :func:`fsp` of equally many (B, C, H, W) maps of both networks."""
        return fsp(student_maps, teacher_maps)

    extra_repr = settings_repr


def _check_levels(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> None:
    """Refuse a single level, and channels that differ."""
    if len(student_maps) < 2:
        raise ValueError("student_maps has 1 level: FSP needs two or more, it compares the step from one to the next")
    for level, (student, teacher) in enumerate(zip(student_maps, teacher_maps, strict=True)):
        if student.shape[1] != teacher.shape[1]:
            raise ValueError(
                f"student_maps[{level}] has {student.shape[1]} channels but teacher_maps[{level}] has "
                f"{teacher.shape[1]}: FSP needs networks of the same widths; AT, NST and SP do not"
            )


def _flow(lower: Tensor, upper: Tensor) -> Tensor:
    """Return the (B, C_lower, C_upper) flow matrices."""
    lower, upper = (x.flatten(2) for x in same_size(lower, upper))
    with torch.autocast(lower.device.type, enabled=False):
        return lower @ upper.transpose(1, 2) / lower.shape[2]
