"""VID, variational information distillation: the student predicts the teacher's maps as Gaussians."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.losses.checks import check_feature, check_maps, check_pair, check_positive, check_same_shape
from stillroom.losses.connectors import cast_for, check_connected, match_size, place, smaller_size
from stillroom.losses.finite import check_result, check_values
from stillroom.losses.numerics import widen
from stillroom.losses.protocol import settings_repr

if TYPE_CHECKING:
    from collections.abc import Sequence

EPSILON = 1e-5


def vid(predicted: Tensor, log_scale: Tensor, teacher_map: Tensor, *, epsilon: float = EPSILON) -> Tensor:
    """Compute variational information distillation's loss for one level.

    VID = mean over all elements of 1/2 ((m - t)^2 / v_c + log v_c), the negative log-likelihood of the teacher's map
    t under a Gaussian with the predicted mean m and one variance per channel, v_c = log(1 + exp(a_c)) + epsilon. The
    constant 1/2 log(2 pi) is left out, so the loss may be negative; least is 1/2 log(epsilon), where m = t and the
    variances have vanished.

    Args:
        predicted: m, (B, C, H, W), any floating dtype; computed in float32 at least.
        log_scale: a, (C,); it gets a gradient too.
        teacher_map: t, the same shape as m; no gradient reaches it.
        epsilon: the least variance, above 0.

    Returns:
        A scalar, float32 (float64 if a map is).

    Raises:
        ValueError: a map is not (B, C, H, W) floating or is empty, the maps or the scale do not fit each other, or
            epsilon is not finite and above 0.

    Reference:
        Ahn et al., "Variational Information Distillation for Knowledge Transfer", CVPR 2019, arXiv 1904.05835.

    Example:
        >>> import torch
        >>> vid(torch.zeros(1, 1, 2, 2), torch.zeros(1), torch.ones(1, 1, 2, 2))
        tensor(0.5381)
    """
    check_feature("predicted", predicted, dimensions=4, shape="(B, C, H, W)")
    check_feature("teacher_map", teacher_map, dimensions=4, shape="(B, C, H, W)")
    check_pair("predicted", predicted, "teacher_map", teacher_map)
    fix = "predict the teacher's map in the teacher's shape, as VID's regressor does"
    check_same_shape("predicted", predicted, "teacher_map", teacher_map, fix=fix)
    if log_scale.shape != predicted.shape[1:2]:
        raise ValueError(
            f"log_scale has shape {tuple(log_scale.shape)} but predicted has {predicted.shape[1]} channels: "
            "give one number per channel"
        )
    check_values("log_scale", log_scale)
    check_positive(epsilon=epsilon)
    mean, teacher = widen(predicted, teacher_map)
    variance = F.softplus(log_scale.to(mean.dtype)).view(1, -1, 1, 1) + epsilon
    loss = 0.5 * ((mean - teacher).square() / variance + variance.log()).mean()
    return check_result(loss, predicted=predicted, teacher_map=teacher_map)


class VID(nn.Module):
    """:func:`vid` summed over the levels, with a learned prediction and learned variances for each.

    Per level three 1x1 convolutions without bias, a ReLU between them, go from the student's channels to the
    teacher's. The larger of two maps is first averaged to the smaller one's size.

    Args:
        init_variance: every channel's variance at the start, above 1e-5.

    Raises:
        ValueError: init_variance is not finite and above 1e-5.

    Example:
        >>> import torch
        >>> maps = [torch.rand(2, 4, 8, 8), torch.rand(2, 8, 4, 4)], [torch.rand(2, 6, 8, 8), torch.rand(2, 9, 4, 4)]
        >>> VID(init_variance=5.0).connect(*maps)(*maps).shape
        torch.Size([])
    """

    per_sample = True

    def __init__(self, init_variance: float = 5.0) -> None:
        super().__init__()
        if not EPSILON < init_variance < math.inf:
            raise ValueError(f"init_variance is {init_variance}: it must be finite and above {EPSILON}")
        self.init_variance = init_variance
        self.predictors = nn.ModuleList()

    def connect(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Self:
        """Build a predictor per level.

        Args:
            student_maps: an example of each level, (B, C, H, W).
            teacher_maps: as many; channels and sizes may differ.

        Raises:
            ValueError: the maps do not fit each other.
        """
        check_maps(student_maps, teacher_maps)
        self.predictors = nn.ModuleList(
            place(_Predictor(student.shape[1], teacher.shape[1], self.init_variance), student)
            for student, teacher in zip(student_maps, teacher_maps, strict=True)
        )
        return self

    def forward(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
        """Return the sum over the levels of :func:`vid`.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        check_maps(student_maps, teacher_maps)
        check_connected(self, self.predictors, student_maps, "student_maps, teacher_maps")
        levels = zip(self.predictors, student_maps, teacher_maps, strict=True)
        return torch.stack([predictor(student, teacher) for predictor, student, teacher in levels]).sum()

    extra_repr = settings_repr


class _Predictor(nn.Module):
    """One level: the mean of a teacher's map given the student's, and the variance around it."""

    def __init__(self, channels: int, wanted: int, variance: float) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(channels, wanted, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(wanted, wanted, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(wanted, wanted, 1, bias=False),
        )
        # The inverse of softplus, in the form that does not overflow for a large variance.
        above = variance - EPSILON
        self.log_scale = nn.Parameter(torch.full((wanted,), above + math.log(-math.expm1(-above))))

    def forward(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        size = smaller_size(student_map, teacher_map)
        predicted = self.mean(cast_for(self.mean, match_size(student_map, size)))
        return vid(predicted, self.log_scale, match_size(teacher_map.detach(), size))
