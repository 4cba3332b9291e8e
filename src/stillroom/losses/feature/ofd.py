"""OFD, overhaul of feature distillation: the student learns the positive responses and that others are negative."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_feature, check_maps, check_pair, check_same_shape
from stillroom.losses.connectors import cast_for, check_connected, conv_bn, halved_upwards, match_size, place, size_of
from stillroom.losses.finite import check_result, check_values
from stillroom.losses.numerics import widen

if TYPE_CHECKING:
    from collections.abc import Sequence

# Up to this fraction of negative responses, public code uses -3 standard deviations in place of their mean.
RARE = 0.001


def ofd(student_map: Tensor, teacher_map: Tensor, margin: Tensor) -> Tensor:
    """Compute the overhaul's distance for one level.

    The teacher's map goes through a margin ReLU, t' = max(t, m_c), with one m_c <= 0 per channel. The partial L2
    distance is 1/B times the sum over all elements of (s - t')^2, without those where t <= 0 and s <= t':
    where the teacher's neuron does not fire, any sufficiently negative s is correct. The loss is 0 where every other s
    equals t'.

    Args:
        student_map: s, (B, C, H, W) before the activation; any floating dtype, computed in float32 at least.
        teacher_map: t, the same shape, before the activation; no gradient reaches it.
        margin: m, C numbers <= 0 in any shape, such as (1, C, 1, 1); no gradient reaches it.

    Returns:
        A scalar, float32 (float64 if a map is). A sum over places and channels, hence large.

    Raises:
        ValueError: a map is not (B, C, H, W) floating or is empty, the two disagree in shape or device, or there is
            not one margin per channel.

    Reference:
        Heo et al., "A Comprehensive Overhaul of Feature Distillation", ICCV 2019, arXiv 1904.01866.

    Example:
        >>> import torch
        >>> teacher, margin = torch.tensor([[[[2.0, -4.0, -4.0]]]]), torch.tensor([-1.0])
        >>> ofd(torch.tensor([[[[1.0, 1.0, -9.0]]]]), teacher, margin)
        tensor(5.)
    """
    check_feature("student_map", student_map, dimensions=4, shape="(B, C, H, W)")
    check_feature("teacher_map", teacher_map, dimensions=4, shape="(B, C, H, W)")
    check_pair("student_map", student_map, "teacher_map", teacher_map)
    fix = "pass the student's map through a connector first, as OFD does"
    check_same_shape("student_map", student_map, "teacher_map", teacher_map, fix=fix)
    if margin.numel() != student_map.shape[1]:
        raise ValueError(
            f"margin has shape {tuple(margin.shape)} but the maps have {student_map.shape[1]} channels: "
            "give one number per channel"
        )
    check_values("margin", margin)
    student, teacher = widen(student_map, teacher_map)
    goal = torch.maximum(teacher, margin.detach().to(student.dtype).reshape(1, -1, 1, 1))
    gap = student - goal
    # relu, not a product with a mask: it passes a NaN on and keeps an overflow of excluded elements out.
    counted = torch.where(teacher > 0, gap, gap.relu())
    loss = counted.square().sum() / student.shape[0]
    return check_result(loss, student_map=student_map, teacher_map=teacher_map)


class OFD(nn.Module):
    """:func:`ofd` over the levels, with a connector and a margin per channel for each.

    A connector is a 1x1 convolution with batch normalisation to the teacher's channels. The teacher's map is averaged
    to the student's size. Level l of L has the weight 2^(l - L). The margins are the mean of each
    channel's negative responses over the examples given to :meth:`connect`, and then fixed.

    Example:
        >>> import torch
        >>> maps = [torch.randn(2, 4, 8, 8)], [torch.randn(2, 6, 8, 8)]
        >>> OFD().connect(*maps)(*maps).shape
        torch.Size([])
    """

    per_sample = True

    def __init__(self) -> None:
        super().__init__()
        self.connectors = nn.ModuleList()

    def connect(self, student_preact_maps: Sequence[Tensor], teacher_preact_maps: Sequence[Tensor]) -> Self:
        """Build a connector per level and measure the margins.

        Args:
            student_preact_maps: an example of each level, (B, C, H, W).
            teacher_preact_maps: as many, of real images: the margins come from them; more images, better margins.

        Raises:
            ValueError: the maps do not fit each other.
        """
        check_maps(student_preact_maps, teacher_preact_maps)
        self.connectors = nn.ModuleList(
            place(_Connector(student.shape[1], margin_of(match_size(teacher, size_of(student)))), student)
            for student, teacher in zip(student_preact_maps, teacher_preact_maps, strict=True)
        )
        return self

    def forward(self, student_preact_maps: Sequence[Tensor], teacher_preact_maps: Sequence[Tensor]) -> Tensor:
        """Return the weighted sum over the levels of :func:`ofd`.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        check_maps(student_preact_maps, teacher_preact_maps)
        check_connected(self, self.connectors, student_preact_maps, "student_preact_maps, teacher_preact_maps")
        levels = zip(self.connectors, student_preact_maps, teacher_preact_maps, strict=True)
        terms = [connector(student, teacher) for connector, student, teacher in levels]
        return halved_upwards(terms)


def margin_of(teacher_map: Tensor) -> Tensor:
    """Mean of each channel's negative responses.

    Where less than 0.1 % of a channel is negative, minus three standard deviations of the channel take its place, as
    in public code, which is 0 for a channel that never changes.

    Args:
        teacher_map: (B, C, H, W), before the activation.

    Returns:
        (1, C, 1, 1), <= 0, float32 (float64 if the map is).

    Example:
        >>> import torch
        >>> margin_of(torch.tensor([[[[-1.0, -3.0, 8.0]], [[2.0, 2.0, 2.0]]]])).flatten()
        tensor([-2., -0.])
    """
    responses, _ = widen(teacher_map.detach(), teacher_map)
    negative = responses < 0
    count = negative.sum((0, 2, 3), keepdim=True)
    mean = responses.clamp(max=0).sum((0, 2, 3), keepdim=True) / count.clamp(min=1)
    spread = responses.std((0, 2, 3), correction=0, keepdim=True)
    rare = count <= RARE * responses[:, 0].numel()
    return torch.where(rare, -3 * spread, mean)


class _Connector(nn.Module):
    """One level: from the student's channels to the teacher's, and the teacher's margins."""

    margin: Tensor

    def __init__(self, channels: int, margin: Tensor) -> None:
        super().__init__()
        wanted = margin.numel()
        self.layers = conv_bn(channels, wanted, init=lambda weight: nn.init.normal_(weight, 0.0, math.sqrt(2 / wanted)))
        self.register_buffer("margin", margin)

    def forward(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        connected = self.layers(cast_for(self.layers, student_map))
        return ofd(connected, match_size(teacher_map.detach(), size_of(student_map)), self.margin)
