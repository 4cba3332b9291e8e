"""CAT-KD, class attention transfer: the student's class activation maps learn the teacher's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillroom.losses.checks import check_feature, check_pair
from stillroom.losses.finite import check_result
from stillroom.losses.maps import pool_to
from stillroom.losses.numerics import unit_rows, widen
from stillroom.losses.protocol import settings_repr


def cams(final_map: Tensor, weight: Tensor) -> Tensor:
    """Compute class activation maps: the contribution of each place of the final map to each class's logit.

    A linear head on the global average of a map f is the average over places of ``CAM[c] = sum_d weight[c, d] f[d]``,
    plus the bias, which is not part of the map.

    Args:
        final_map: (B, D, H, W), any floating dtype; computed in float32 at least.
        weight: (C, D) of the linear head. Gradients reach both.

    Returns:
        (B, C, H, W), float32 (float64 if an input is).

    Raises:
        ValueError: the shapes do not fit each other or are empty, or an input is not floating.

    Example:
        >>> import torch
        >>> head, final_map = torch.nn.Linear(8, 3), torch.rand(2, 8, 4, 4)
        >>> logits = head(final_map.mean((2, 3)))
        >>> torch.allclose(cams(final_map, head.weight).mean((2, 3)) + head.bias, logits, atol=1e-6)
        True
    """
    check_feature("final_map", final_map, dimensions=4, shape="(B, D, H, W)")
    check_feature("weight", weight, dimensions=2, shape="(C, D)")
    if weight.shape[1] != final_map.shape[1]:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)} but final_map has {final_map.shape[1]} channels: give the map "
            "whose global average that head reads"
        )
    dtype = torch.float64 if torch.float64 in (final_map.dtype, weight.dtype) else torch.float32
    with torch.autocast(final_map.device.type, enabled=False):
        return functional.conv2d(final_map.to(dtype), weight.to(dtype)[:, :, None, None])


def catkd(student_cam: Tensor, teacher_cam: Tensor, *, size: int = 2, normalize: bool = True) -> Tensor:
    """Compute class attention transfer's loss.

    Both networks' maps are average-pooled to size x size, each class's map of each sample is scaled to length 1, and
    the loss is the mean over samples, classes and places of the squared difference. With ``normalize`` it lies in
    [0, 4 / size^2] and is 0 where every map agrees up to a positive factor. A map of zeros stays zero.

    Args:
        student_cam: (B, C, H, W), any floating dtype; computed in float32 at least.
        teacher_cam: (B, C, H', W'); no gradient reaches it.
        size: height and width compared, at least 1.
        normalize: scale each class's map to length 1; without it, the magnitude of the maps is compared too.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: a map is not (B, C, H, W) floating or is empty, the two disagree in batch, classes or device; or
            the size is below 1.

    Reference:
        Guo, Yan, Li and Lin, "Class Attention Transfer Based Knowledge Distillation", CVPR 2023, arXiv 2304.12777.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[8.0, 6.0]]]])
        >>> catkd(student, teacher)
        tensor(0.0200)
        >>> catkd(5 * teacher, teacher)
        tensor(0.)
    """
    check_feature("student_cam", student_cam, dimensions=4, shape="(B, C, H, W)")
    check_feature("teacher_cam", teacher_cam, dimensions=4, shape="(B, C, H, W)")
    check_pair("student_cam", student_cam, "teacher_cam", teacher_cam)
    if student_cam.shape[1] != teacher_cam.shape[1]:
        raise ValueError(
            f"teacher_cam has {teacher_cam.shape[1]} classes but student_cam has {student_cam.shape[1]}: "
            "both networks need the same classes"
        )
    _check_size(size)
    student, teacher = (pool_to(cam, size, size).flatten(2) for cam in widen(student_cam, teacher_cam))
    if normalize:
        student, teacher = unit_rows(student), unit_rows(teacher)
    return check_result((student - teacher).square().mean(), student_cam=student_cam, teacher_cam=teacher_cam)


class CATKD(nn.Module):
    """:func:`catkd` of two networks' final maps and linear heads.

    The student's gradient reaches its map and its head's weight, as in the public code.

    Args:
        size: height and width compared, at least 1.
        normalize: scale each class's map to length 1.

    Raises:
        ValueError: the size is below 1.

    Example:
        >>> CATKD(size=4)
        CATKD(size=4, normalize=True)
    """

    per_sample = True

    def __init__(self, size: int = 2, normalize: bool = True) -> None:
        super().__init__()
        _check_size(size)
        self.size = size
        self.normalize = normalize

    def forward(
        self, student_final_map: Tensor, teacher_final_map: Tensor, student_head: nn.Linear, teacher_head: nn.Linear
    ) -> Tensor:
        """Return the loss of (B, D, H, W) and (B, E, H', W') maps and the heads on their global averages."""
        maps = (("student_final_map", student_final_map), ("teacher_final_map", teacher_final_map))
        for name, feature in maps:
            check_feature(name, feature, dimensions=4, shape="(B, D, H, W)")
        # Pooling and the head are both linear: pooled first, the head has fewer places to work on.
        student = cams(pool_to(_widen(student_final_map), self.size, self.size), student_head.weight)
        teacher = cams(pool_to(_widen(teacher_final_map.detach()), self.size, self.size), teacher_head.weight.detach())
        return catkd(student, teacher, size=self.size, normalize=self.normalize)

    extra_repr = settings_repr


def _check_size(size: int) -> None:
    if size < 1:
        raise ValueError(f"size is {size}: it must be at least 1 (2 is usual)")


def _widen(feature: Tensor) -> Tensor:
    return feature if feature.dtype == torch.float64 else feature.float()
