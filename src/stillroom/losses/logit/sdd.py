"""SDD, scale decoupled distillation: a logit loss on every region of the last feature map, coarse to fine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillroom.losses.checks import (
    check_feature,
    check_finite,
    check_pair,
    check_reduction,
    check_same_shape,
    check_target,
)
from stillroom.losses.logit.standardize import Standardized
from stillroom.losses.protocol import needs_of, properties_of, rows_of, settings_repr


def region_logits(
    final_map: Tensor, weight: Tensor, bias: Tensor | None = None, grids: tuple[int, ...] = (1, 2, 4)
) -> Tensor:
    """Classify each region of a feature map with the network's own last layer.

    The map is average-pooled to the finest grid, that one to each coarser grid, and each of the ``N = sum g^2`` pooled
    vectors goes through the linear layer. Pooling is adaptive: a map smaller than the finest grid repeats its cells,
    and one whose sides the grid does not divide has overlapping cells, so that region 0 is then close to but not
    exactly its global average.

    Args:
        final_map: (B, D, H, W), any floating dtype; computed in float32 at least, under autocast too.
        weight: (C, D), the linear layer's.
        bias: (C,), the linear layer's, or None.
        grids: how many cells a side, starting with 1 and growing.

    Returns:
        (B, C, N), float32 (float64 if an input is): the grids in order, each row by row; region 0 is the whole map.

    Raises:
        ValueError: the map is not (B, D, H, W) floating, the layer does not fit its channels or is on another
            device, or the grids are not growing whole numbers from 1.

    Example:
        >>> final_map = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
        >>> region_logits(final_map, torch.tensor([[10.0], [-1.0]]), grids=(1, 2))
        tensor([[[30., 10., 20., 30., 60.],
                 [-3., -1., -2., -3., -6.]]])
    """
    check_feature("final_map", final_map, dimensions=4, shape="(B, D, H, W)")
    _check_grids(grids)
    if weight.dim() != 2 or weight.shape[1] != final_map.shape[1]:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)} but final_map has {final_map.shape[1]} channels: "
            "give the (C, D) weight of the linear layer that follows this map's global average"
        )
    if weight.device != final_map.device:
        raise ValueError(f"weight is on {weight.device} but final_map is on {final_map.device}: move one")
    dtype = torch.promote_types(torch.promote_types(final_map.dtype, weight.dtype), torch.float32)
    with torch.autocast(final_map.device.type, enabled=False):
        cells = functional.adaptive_avg_pool2d(final_map.to(dtype), grids[-1])
        regions = torch.cat([functional.adaptive_avg_pool2d(cells, grid).flatten(2) for grid in grids], 2)
        layer = weight.to(dtype), None if bias is None else bias.to(dtype)
        return functional.linear(regions.transpose(1, 2), *layer).transpose(1, 2)


def sdd(
    student_regions: Tensor,
    teacher_regions: Tensor,
    target: Tensor,
    rows: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    weight: float = 2.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """Compute scale decoupled distillation's loss.

    With l_bn the inner loss of sample b in region n,

        SDD = 1 / (B N) * sum_bn w_bn l_bn,

    where w_bn is ``weight`` if the teacher is correct about one of (region n, region 0) and wrong about the other, and
    1 otherwise. Correct means that its largest logit is the label's. The weights are constants to the gradient. A NaN
    stays a NaN.

    Args:
        student_regions: (B, C, N) of :func:`region_logits`, region 0 the whole map.
        teacher_regions: same shape; no gradient reaches it.
        target: (B,) int64 labels in [0, C).
        rows: the inner loss, from (B N, C) student logits, as many teacher logits and (B N,) labels to (B N,); called
            once. It may ignore the labels.
        weight: of the regions that complement the whole.
        reduction: "none" leaves the mean over the batch out.

    Returns:
        A scalar, or (B,) with ``reduction="none"``, in the dtype that ``rows`` returns.

    Raises:
        ValueError: regions or target do not fit each other (shape, dtype, device, range), ``rows`` returns another
            shape, the weight is not finite, or the reduction is unknown.

    Reference:
        Wei, Luo and Luo, "Scale Decoupled Distillation", CVPR 2024, arXiv 2403.13512.

    Example:
        >>> from stillroom.losses import dkd
        >>> student, teacher = torch.zeros(1, 3, 2), torch.tensor([[[3.0, 0.0], [0.0, 0.0], [0.0, 3.0]]])
        >>> def rows(student, teacher, target):
        ...     return dkd(student, teacher, target, reduction="none")
        >>> sdd(student, teacher, torch.tensor([0]), rows), sdd(student, teacher, torch.tensor([0]), rows, weight=1.0)
        (tensor(9.2686), tensor(4.9109))
    """
    check_feature("student_regions", student_regions, dimensions=3, shape="(B, C, N)")
    check_feature("teacher_regions", teacher_regions, dimensions=3, shape="(B, C, N)")
    check_pair("student_regions", student_regions, "teacher_regions", teacher_regions)
    fix = "both need (B, C, N) for the same samples, classes and grids"
    check_same_shape("student_regions", student_regions, "teacher_regions", teacher_regions, fix=fix)
    check_target(target, student_regions[..., 0])
    check_finite(weight=weight)
    check_reduction(reduction)
    (batch, classes, count), teacher_regions = student_regions.shape, teacher_regions.detach()
    student, teacher = (regions.transpose(1, 2).reshape(-1, classes) for regions in (student_regions, teacher_regions))
    losses = rows(student, teacher, target.unsqueeze(1).expand(-1, count).reshape(-1))
    if losses.shape != (batch * count,):
        raise ValueError(f"rows returned shape {tuple(losses.shape)}: it must be ({batch * count},), one loss per row")
    losses = losses.reshape(batch, count)
    correct = teacher_regions.argmax(1) == target.unsqueeze(1)
    losses = torch.where(correct != correct[:, :1], weight * losses, losses)
    return losses.mean() if reduction == "mean" else losses.mean(1)


class SDD(nn.Module):
    """:func:`sdd` around another logit loss, with its grids and weight.

    Args:
        loss: a module with ``rows(student_logits, teacher_logits)`` or ``rows(..., target)``, the losses of single
            samples: KD, DKD, NKD, LDRLD, SWAP or one of these in Standardized.
        grids: cells a side, starting with 1 and growing. The finest one decides how the others are pooled.
        weight: of the regions that complement the whole.

    Raises:
        ValueError: the loss has no ``rows`` or a misspelt property, the grids do not grow from 1, or the weight is not
            finite.

    Example:
        >>> from stillroom.losses import KD
        >>> SDD(KD(temperature=2.0), grids=(1, 2))
        SDD(
          grids=(1, 2), weight=2.0
          (loss): KD(temperature=2.0)
        )
    """

    per_sample = True

    def __init__(self, loss: nn.Module, grids: tuple[int, ...] = (1, 2, 4), weight: float = 2.0) -> None:
        super().__init__()
        _check_loss(loss)
        _check_grids(grids)
        check_finite(weight=weight)
        self.loss = loss
        self.grids = tuple(grids)
        self.weight = weight
        self._with_target = "target" in needs_of(loss)
        inner = properties_of(loss)
        self.draws, self.initial_epochs, self.final_epoch = inner.draws, inner.initial_epochs, inner.final_epoch

    @property
    def connect(self) -> Callable[..., nn.Module] | None:
        """The inner loss's ``connect``; None where it has none."""
        return getattr(self.loss, "connect", None)

    def forward(
        self,
        student_final_map: Tensor,
        teacher_final_map: Tensor,
        student_head: nn.Linear,
        teacher_head: nn.Linear,
        target: Tensor,
    ) -> Tensor:
        """Return :func:`sdd` of two (B, D, H, W) maps, whose D, H and W may differ, and (B,) labels.

        The heads' weights are used directly, so no hook on a head is called. The gradient reaches the student's map
        and head, not the teacher's.

        Raises:
            ValueError: a map does not fit its head, the heads differ in classes, or as :func:`sdd` and the inner loss.
        """
        return self._run(student_final_map, teacher_final_map, student_head, teacher_head, target, "mean")

    def rows(
        self,
        student_final_map: Tensor,
        teacher_final_map: Tensor,
        student_head: nn.Linear,
        teacher_head: nn.Linear,
        target: Tensor,
    ) -> Tensor:
        """Return the losses of the samples, (B,), whose mean is :meth:`forward`."""
        return self._run(student_final_map, teacher_final_map, student_head, teacher_head, target, "none")

    def _run(
        self,
        student_final_map: Tensor,
        teacher_final_map: Tensor,
        student_head: nn.Linear,
        teacher_head: nn.Linear,
        target: Tensor,
        reduction: Literal["mean", "none"],
    ) -> Tensor:
        check_feature("student_final_map", student_final_map, dimensions=4, shape="(B, D, H, W)")
        check_feature("teacher_final_map", teacher_final_map, dimensions=4, shape="(B, D, H, W)")
        student = region_logits(student_final_map, student_head.weight, student_head.bias, self.grids)
        with torch.no_grad():
            teacher = region_logits(teacher_final_map, teacher_head.weight, teacher_head.bias, self.grids)
        return sdd(student, teacher, target, self._region_rows, weight=self.weight, reduction=reduction)

    def _region_rows(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        extra = {"target": target} if self._with_target else {}
        rows = rows_of(self.loss)
        assert rows is not None  # see _check_loss
        return rows(student_logits, teacher_logits, **extra)

    extra_repr = settings_repr


def _check_grids(grids: tuple[int, ...]) -> None:
    """Refuse grids without a whole-map region at their start or out of order."""
    whole = all(isinstance(grid, int) for grid in grids)
    if not whole or tuple(grids[:1]) != (1,) or list(grids) != sorted(set(grids)):
        raise ValueError(f"grids is {grids!r}: give increasing whole numbers that start with 1, such as (1, 2, 4)")


def _check_loss(loss: nn.Module) -> None:
    """Refuse a loss that is not a mean over samples, or that needs more than logits and labels."""
    if rows_of(loss) is None:
        inner = loss.loss if isinstance(loss, Standardized) else loss
        raise ValueError(
            f"loss is {type(inner).__name__}, which has no rows(): give a loss that is a mean over samples, "
            "such as KD, DKD, NKD, LDRLD, or Standardized around one of them"
        )
    needs = needs_of(loss)
    if needs not in (("student_logits", "teacher_logits"), ("student_logits", "teacher_logits", "target")):
        raise ValueError(
            f"loss is {type(loss).__name__} with forward({', '.join(needs)}): "
            "give one with forward(student_logits, teacher_logits) or forward(..., target)"
        )
