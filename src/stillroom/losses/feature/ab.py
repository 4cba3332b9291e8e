"""AB, activation boundaries: the student learns which of the teacher's neurons fire, in a stage before training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_feature, check_maps, check_pair, check_positive, check_same_shape
from stillroom.losses.connectors import (
    cast_for,
    check_connected,
    check_whole,
    conv_bn,
    halved_upwards,
    match_size,
    place,
    size_of,
)
from stillroom.losses.finite import check_result
from stillroom.losses.numerics import widen
from stillroom.losses.protocol import settings_repr

if TYPE_CHECKING:
    from collections.abc import Sequence

# 1/1000 keeps a sum over all elements in the range of other losses; the 3 is the public code's.
SCALE = 3 / 1000


def ab(student_map: Tensor, teacher_map: Tensor, *, margin: float = 1.0) -> Tensor:
    """Compute the activation boundary loss for one level.

    AB = 3 / (1000 B) * sum over all elements of max(0, margin - s)^2 where the teacher's neuron fires (t > 0), and of
    max(0, margin + s)^2 where it does not. Only the sign of t counts. The loss is 0 where every s is on t's side of 0
    by at least the margin.

    Args:
        student_map: s, (B, C, H, W) before the activation; any floating dtype, computed in float32 at least.
        teacher_map: t, the same shape, before the activation; no gradient reaches it.
        margin: how far from 0 is far enough, above 0.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: a map is not (B, C, H, W) floating or is empty, the two disagree in shape or device, or margin is
            not finite and above 0.

    Reference:
        Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons",
        AAAI 2019, arXiv 1811.03233.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[[[5.0, -0.1]]]])
        >>> ab(torch.tensor([[[[1.0, 1.0]]]]), teacher)
        tensor(0.0120)
        >>> ab(torch.tensor([[[[1.0, -1.0]]]]), teacher)
        tensor(0.)
    """
    check_feature("student_map", student_map, dimensions=4, shape="(B, C, H, W)")
    check_feature("teacher_map", teacher_map, dimensions=4, shape="(B, C, H, W)")
    check_pair("student_map", student_map, "teacher_map", teacher_map)
    fix = "pass the student's map through a connector first, as AB does"
    check_same_shape("student_map", student_map, "teacher_map", teacher_map, fix=fix)
    check_positive(margin=margin)
    student, teacher = widen(student_map, teacher_map)
    missing = (margin + torch.where(teacher > 0, -student, student)).relu()
    # A comparison hides a NaN of the teacher's.
    missing = torch.where(teacher.isnan(), teacher, missing)
    loss = missing.square().sum() * (SCALE / student.shape[0])
    return check_result(loss, student_map=student_map, teacher_map=teacher_map)


class AB(nn.Module):
    """:func:`ab` over the levels, with a connector for each: an initial stage that trains nothing else.

    A connector is a 1x1 convolution with batch normalisation to the teacher's channels, its output averaged to the
    teacher's size. Level l of L has the weight 2^(l - L): the deepest 1, the one before 1/2.

    Args:
        margin: as in :func:`ab`.
        initial_epochs: length of the stage, at least 1. After it the loss is not computed (``final_epoch``).

    Raises:
        ValueError: margin is not finite and above 0, or initial_epochs is not a whole number of at least 1.

    Example:
        >>> import torch
        >>> maps = [torch.randn(2, 4, 8, 8)], [torch.randn(2, 6, 8, 8)]
        >>> AB(initial_epochs=10).connect(*maps)(*maps).shape
        torch.Size([])
    """

    per_sample = True

    def __init__(self, margin: float = 1.0, initial_epochs: int = 30) -> None:
        super().__init__()
        check_positive(margin=margin)
        check_whole(1, initial_epochs=initial_epochs)
        self.margin = margin
        self.initial_epochs = initial_epochs
        self.final_epoch: int | None = initial_epochs
        self.connectors = nn.ModuleList()

    def connect(self, student_preact_maps: Sequence[Tensor], teacher_preact_maps: Sequence[Tensor]) -> Self:
        """Build a connector per level.

        Args:
            student_preact_maps: an example of each level, (B, C, H, W).
            teacher_preact_maps: as many; channels and sizes may differ.

        Raises:
            ValueError: the maps do not fit each other.
        """
        check_maps(student_preact_maps, teacher_preact_maps)
        self.connectors = nn.ModuleList(
            place(conv_bn(student.shape[1], teacher.shape[1]), student)
            for student, teacher in zip(student_preact_maps, teacher_preact_maps, strict=True)
        )
        return self

    def forward(self, student_preact_maps: Sequence[Tensor], teacher_preact_maps: Sequence[Tensor]) -> Tensor:
        """Return the weighted sum over the levels of :func:`ab`.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        check_maps(student_preact_maps, teacher_preact_maps)
        check_connected(self, self.connectors, student_preact_maps, "student_preact_maps, teacher_preact_maps")
        terms = []
        for connector, student, teacher in zip(self.connectors, student_preact_maps, teacher_preact_maps, strict=True):
            connected = match_size(connector(cast_for(connector, student)), size_of(teacher))
            terms.append(ab(connected, teacher, margin=self.margin))
        return halved_upwards(terms)

    extra_repr = settings_repr
