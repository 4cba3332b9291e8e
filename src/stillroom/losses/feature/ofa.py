"""OFA-KD, one for all: every stage of the student predicts classes, so that any two networks can be compared."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Self

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
from stillroom.losses.connectors import cast_for, check_connected, conv_bn, place, size_of
from stillroom.losses.numerics import as_rows
from stillroom.losses.protocol import settings_repr
from stillroom.losses.tensors import check_levels

if TYPE_CHECKING:
    from collections.abc import Sequence

ARGUMENTS = "student_maps, student_logits"


def ofa(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    epsilon: float = 1.0,
    temperature: float = 1.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute OFA-KD's loss of one pair of logits: a cross-entropy with the teacher whose target class is enhanced.

    With p, q the softmaxes of teacher and student at temperature T and y the label,
    ``OFA = -sum_c w_c log q_c``, ``w_c = p_c^epsilon`` for c != y and ``w_y = (1 + p_y)^epsilon - 1``, a mean over the
    batch without a factor T^2. epsilon 1 is the cross-entropy with the teacher's probabilities; above 1 the other
    classes lose weight against the label, the more so the less confident the teacher is of them. It is >= 0, and not 0
    where the networks agree. The cross-entropy with the labels is not included.

    Args:
        student_logits: (B, C) or (..., C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        target: (B,) or (...,) int64 labels in [0, C).
        epsilon: exponent of the enhancement, above 0; 1 to 1.5 in public scripts.
        temperature: T, above 0.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        A scalar, or (B,) or (...,) with ``reduction="none"``; float32 (float64 if an input is).

    Raises:
        ValueError: logits or target do not fit each other (shape, dtype, device, range), B = 0 or C < 2; epsilon or the
            temperature is not finite and above 0; or the reduction is unknown.

    Reference:
        Hao et al., "One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge Distillation",
        NeurIPS 2023, arXiv 2310.19444.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 5.0]])
        >>> ofa(student, teacher, torch.tensor([2])), ofa(student, teacher, torch.tensor([2]), epsilon=2.0)
        (tensor(0.5567), tensor(1.0329))
    """
    check_logits(student_logits, teacher_logits, leading=True)
    check_target(target, student_logits)
    check_positive(epsilon=epsilon)
    check_temperature(temperature)
    check_reduction(reduction)
    student, teacher = as_rows(student_logits, teacher_logits)
    label = target.reshape(-1, 1)
    log_q, log_p = (student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
    enhanced = (epsilon * log_p.gather(1, label).exp().log1p()).expm1()
    weights = (epsilon * log_p).exp().scatter(1, label, enhanced)
    rows = -(weights * log_q).sum(1)
    return rows.mean() if reduction == "mean" else rows.reshape(target.shape)


class OFA(nn.Module):
    """:func:`ofa` of the student's logits and of logits that a projector computes from each of its stages.

    Only the student's maps and both networks' logits are read, so the teacher may be of any kind. A projector halves
    its map to about the size of the deepest one, by depthwise separable convolutions of stride 2 with batch
    normalisation and ReLU, or maps the channels by a 1x1 convolution where the sizes agree; the global average and a
    linear layer follow. Projectors are trained with the student and belong to the loss, not to the student.

    Args:
        epsilon: exponent of the enhancement, above 0.
        temperature: T, above 0.
        stages: weight of the sum over the stages beside the logits' own term.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> import torch
        >>> logits, target = torch.randn(2, 3, 10), torch.tensor([4, 0, 9])
        >>> maps = [torch.randn(3, 4, 8, 8), torch.randn(3, 8, 4, 4)]
        >>> OFA(epsilon=1.5).connect(maps, logits[0])(*logits, target, maps).shape
        torch.Size([])
    """

    per_sample = True
    teacher_offer = "top-k"

    def __init__(self, epsilon: float = 1.0, temperature: float = 1.0, stages: float = 1.0) -> None:
        super().__init__()
        check_positive(epsilon=epsilon)
        check_temperature(temperature)
        check_finite(stages=stages)
        self.epsilon = epsilon
        self.temperature = temperature
        self.stages = stages
        self.projectors = nn.ModuleList()

    def connect(self, student_maps: Sequence[Tensor], student_logits: Tensor) -> Self:
        """Build a projector per stage.

        Args:
            student_maps: an example of each level, (B, C, H, W).
            student_logits: (B, classes).

        Raises:
            ValueError: a map is not (B, C, H, W) floating or is empty, or there is none.
        """
        _check_maps(student_maps)
        classes = student_logits.shape[1]
        self.projectors = nn.ModuleList(
            place(_projector(level, student_maps[-1], classes), level) for level in student_maps
        )
        return self

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, student_maps: Sequence[Tensor]
    ) -> Tensor:
        """Return the sum of :func:`ofa` over the logits and the stages.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        return self.rows(student_logits, teacher_logits, target, student_maps).mean()

    def rows(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor, student_maps: Sequence[Tensor]
    ) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        _check_maps(student_maps)
        check_connected(self, self.projectors, student_maps, ARGUMENTS)
        rows = self._of(student_logits, teacher_logits, target)
        for projector, level in zip(self.projectors, student_maps, strict=True):
            rows = rows + self.stages * self._of(projector(cast_for(projector, level)), teacher_logits, target)
        return rows

    def _of(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        settings = {"epsilon": self.epsilon, "temperature": self.temperature}
        return ofa(student_logits, teacher_logits, target, **settings, reduction="none")

    extra_repr = settings_repr


def _check_maps(student_maps: Sequence[Tensor]) -> None:
    check_levels("student_maps", student_maps)
    if not student_maps:
        raise ValueError("student_maps has 0 levels: give at least one map")
    for level, student_map in enumerate(student_maps):
        check_feature(f"student_maps[{level}]", student_map, dimensions=4, shape="(B, C, H, W)")


def _projector(example: Tensor, deepest: Tensor, classes: int) -> nn.Sequential:
    """From a map to logits, as wide as the deepest map at the end."""
    channels, width = example.shape[1], deepest.shape[1]
    halvings = round(math.log2(max(size_of(example)) / max(size_of(deepest))))
    layers: list[nn.Module] = []
    for left in reversed(range(halvings)):
        wanted = 2 * channels if left else width
        depthwise = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
        layers += [depthwise, conv_bn(channels, wanted), nn.ReLU()]
        channels = wanted
    layers = layers or [conv_bn(channels, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
