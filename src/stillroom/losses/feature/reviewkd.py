"""ReviewKD, knowledge review: each of the teacher's levels teaches the same and all deeper levels of the student."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.losses.checks import check_embeddings, check_maps, check_same_shape
from stillroom.losses.connectors import cast_for, check_connected, check_whole, conv_bn, place, size_of
from stillroom.losses.finite import check_result
from stillroom.losses.numerics import widen
from stillroom.losses.protocol import settings_repr

if TYPE_CHECKING:
    from collections.abc import Sequence

ARGUMENTS = "student_maps, teacher_preact_maps, student_embedding, teacher_embedding"


def reviewkd(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Compute the hierarchical context loss, summed over the levels.

    Per level HCL = (MSE(s, t) + sum_k w_k MSE(pool_k(s), pool_k(t))) / (1 + sum_k w_k), where pool_k averages a map
    to k x k, k runs through those of 4, 2, 1 that are smaller than the map's shorter side, and w is 1/2, 1/4, 1/8 in
    that order. It is 0 only where the two agree.

    Args:
        student_maps: one (B, C, H, W) per level, after the fusion; any floating dtype, computed in float32 at least.
        teacher_maps: the same shapes; no gradient reaches them.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: the levels are not as many, a map is not (B, C, H, W) floating or is empty, or two disagree in
            shape or device.

    Reference:
        Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021, arXiv 2104.09044.

    Example:
        >>> import torch
        >>> reviewkd([torch.zeros(1, 1, 2, 2)], [torch.tensor([[[[3.0, -3.0], [3.0, -3.0]]]])])
        tensor(6.)
    """
    check_maps(student_maps, teacher_maps)
    levels = []
    for level, (student_map, teacher_map) in enumerate(zip(student_maps, teacher_maps, strict=True)):
        names = f"student_maps[{level}]", f"teacher_maps[{level}]"
        fix = "fuse the student's maps to the teacher's shapes first, as ReviewKD does"
        check_same_shape(names[0], student_map, names[1], teacher_map, fix=fix)
        student, teacher = widen(student_map, teacher_map)
        levels.append(_hierarchical(student - teacher))
    return check_result(torch.stack(levels).sum(), student_maps=student_maps, teacher_maps=teacher_maps)


class _Fusing(nn.Module):
    """A loss with a fusion block for each level, which :meth:`connect` builds."""

    per_sample = True

    def __init__(self, mid_channels: int = 512) -> None:
        super().__init__()
        check_whole(1, mid_channels=mid_channels)
        self.mid_channels = mid_channels
        self.fusions = nn.ModuleList()  # deep to shallow, in the order of the computation

    extra_repr = settings_repr


class ReviewKD(_Fusing):
    """:func:`reviewkd` after fusing the student's levels from deep to shallow with attention.

    The deepest level is the embedding, as a 1x1 map. A fusion block narrows its level by a 1x1 convolution, adds the
    resized result of the next deeper block, both weighted place by place by a learned attention, and passes the sum
    on. A 3x3 convolution turns the sum into a prediction of the teacher's map at that level. Every convolution has
    batch normalisation. The sum takes the teacher's size by nearest neighbours, so any two networks fit, also those
    whose maps all have one size.

    Args:
        mid_channels: channels that blocks pass on, at least 1; the width of the student's embedding where that is
            less.

    Raises:
        ValueError: mid_channels is not a whole number of at least 1.

    Example:
        >>> import torch
        >>> maps = [torch.randn(2, 4, 8, 8)], [torch.randn(2, 6, 4, 4)]
        >>> embeddings = torch.randn(2, 4), torch.randn(2, 6)
        >>> ReviewKD(mid_channels=4).connect(*maps, *embeddings)(*maps, *embeddings).shape
        torch.Size([])
    """

    def without_embedding(self) -> PyramidReviewKD:
        """The loss with the same settings on the levels of a feature pyramid alone."""
        return PyramidReviewKD(self.mid_channels)

    def connect(
        self,
        student_maps: Sequence[Tensor],
        teacher_preact_maps: Sequence[Tensor],
        student_embedding: Tensor,
        teacher_embedding: Tensor,
    ) -> Self:
        """Build a fusion block per level.

        Args:
            student_maps: an example of each level, (B, C, H, W).
            teacher_preact_maps: as many; channels and sizes may differ.
            student_embedding: (B, D).
            teacher_embedding: (B, E).

        Raises:
            ValueError: the maps or the embeddings do not fit each other.
        """
        check_maps(student_maps, teacher_preact_maps)
        check_embeddings(student_embedding, teacher_embedding)
        student = _deep_to_shallow(student_maps, student_embedding)
        teacher = _deep_to_shallow(teacher_preact_maps, teacher_embedding)
        self.fusions = _fusions(student, teacher, self.mid_channels)
        return self

    def forward(
        self,
        student_maps: Sequence[Tensor],
        teacher_preact_maps: Sequence[Tensor],
        student_embedding: Tensor,
        teacher_embedding: Tensor,
    ) -> Tensor:
        """Return :func:`reviewkd` of the fused maps and the embedding.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        check_maps(student_maps, teacher_preact_maps)
        check_embeddings(student_embedding, teacher_embedding)
        student = _deep_to_shallow(student_maps, student_embedding)
        teacher = _deep_to_shallow(teacher_preact_maps, teacher_embedding)
        check_connected(self, self.fusions, student, ARGUMENTS)
        return reviewkd(_fused(self.fusions, student, teacher), teacher)


class PyramidReviewKD(_Fusing):
    """:class:`ReviewKD` without the embedding: the deepest map is the deepest level.

    This is the form for feature pyramids, whose levels all have the same channels, and whose embedding, if there is
    one, belongs to regions of an image.

    Args:
        mid_channels: channels that blocks pass on, at least 1; those of the student's deepest map where that has less.

    Raises:
        ValueError: mid_channels is not a whole number of at least 1.

    Example:
        >>> import torch
        >>> levels = [torch.randn(2, 4, 8, 8), torch.randn(2, 4, 4, 4)]
        >>> PyramidReviewKD(mid_channels=4).connect(levels, levels)(levels, levels).shape
        torch.Size([])
    """

    def connect(self, student_maps: Sequence[Tensor], teacher_preact_maps: Sequence[Tensor]) -> Self:
        """Build a fusion block per level.

        Args:
            student_maps: an example of each level, (B, C, H, W), shallow to deep.
            teacher_preact_maps: as many; channels and sizes may differ.

        Raises:
            ValueError: the maps do not fit each other.
        """
        check_maps(student_maps, teacher_preact_maps)
        self.fusions = _fusions(student_maps[::-1], teacher_preact_maps[::-1], self.mid_channels)
        return self

    def forward(self, student_maps: Sequence[Tensor], teacher_preact_maps: Sequence[Tensor]) -> Tensor:
        """Return :func:`reviewkd` of the fused maps.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        check_maps(student_maps, teacher_preact_maps)
        check_connected(self, self.fusions, student_maps, "student_maps, teacher_preact_maps")
        student, teacher = student_maps[::-1], teacher_preact_maps[::-1]
        return reviewkd(_fused(self.fusions, student, teacher), teacher)


def _fusions(student: Sequence[Tensor], teacher: Sequence[Tensor], mid_channels: int) -> nn.ModuleList:
    """A fusion block for each pair of levels, deep to shallow."""
    middle = min(mid_channels, student[0].shape[1])
    return nn.ModuleList(
        place(_Fusion(own.shape[1], middle, wanted.shape[1], deepest=level == 0), own)
        for level, (own, wanted) in enumerate(zip(student, teacher, strict=True))
    )


def _fused(fusions: nn.ModuleList, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[Tensor]:
    """The predictions of the teacher's maps, deep to shallow."""
    predictions: list[Tensor] = []
    passed: Tensor | None = None
    for fusion, own, wanted in zip(fusions, student, teacher, strict=True):
        prediction, passed = fusion(own, passed, size_of(wanted))
        predictions.append(prediction)
    return predictions


class _Fusion(nn.Module):
    """One level: fuses its map with the deeper level's output into a prediction and an output for the next level."""

    def __init__(self, channels: int, middle: int, wanted: int, *, deepest: bool) -> None:
        super().__init__()
        self.entry = conv_bn(channels, middle, init=_uniform)
        self.exit = conv_bn(middle, wanted, kernel_size=3, init=_uniform)
        self.attention = None if deepest else nn.Conv2d(2 * middle, 2, 1)

    def forward(self, own: Tensor, passed: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        fused: Tensor = self.entry(cast_for(self.entry, own))
        if self.attention is not None and passed is not None:
            passed = _nearest(passed, size_of(fused))
            weights = self.attention(torch.cat((fused, passed), 1)).sigmoid()
            fused = fused * weights[:, :1] + passed * weights[:, 1:]
        fused = _nearest(fused, size)
        return self.exit(fused), fused


def _nearest(feature: Tensor, size: tuple[int, int]) -> Tensor:
    """A map at another size by nearest neighbours; itself where it has that size."""
    return feature if size_of(feature) == size else F.interpolate(feature, size, mode="nearest")


def _hierarchical(difference: Tensor) -> Tensor:
    """One level's loss from student minus teacher; pooling is linear, so one pooling serves both."""
    loss, weight, total = difference.square().mean(), 1.0, 1.0
    for side in (4, 2, 1):
        if side < min(size_of(difference)):
            weight /= 2
            total += weight
            loss = loss + weight * F.adaptive_avg_pool2d(difference, side).square().mean()
    return loss / total


def _deep_to_shallow(maps: Sequence[Tensor], embedding: Tensor) -> list[Tensor]:
    return [embedding[:, :, None, None], *reversed(maps)]


def _uniform(weight: Tensor) -> Tensor:
    return nn.init.kaiming_uniform_(weight, a=1)
