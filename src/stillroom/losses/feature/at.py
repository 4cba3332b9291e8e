"""AT, attention transfer: the student's spatial attention maps learn the teacher's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_feature, check_maps, check_pair, check_positive
from stillroom.losses.maps import same_size
from stillroom.losses.numerics import negligible, unit_rows, widen
from stillroom.losses.protocol import settings_repr


def at(student_map: Tensor, teacher_map: Tensor, *, power: float = 2.0) -> Tensor:
    """Compute attention transfer's loss for one level.

    A map f is reduced to ``a[h, w] = mean_c |f[c, h, w]|^p``. This attention map, as a vector over its H * W places, is
    divided by its length: ``u = a / |a|``. The loss is the mean over samples and places of ``(u_s - u_t)^2``. It is in
    [0, 2 / (H W)], is 0 where the attention maps agree up to a factor, and ignores the number of channels. Where the
    sizes differ, the larger map is average-pooled to the smaller, each side by itself, before the power.

    A map of zeros has an attention map of zeros, with gradient 0.

    Args:
        student_map: (B, C, H, W), any floating dtype; computed in float32 at least.
        teacher_map: (B, C', H', W'); no gradient reaches it.
        power: p, above 0; the higher, the larger the weight of the strongest channels. Below 1 the true gradient at an
            activation of exactly 0 is infinite: 0 is used.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: a map is not (B, C, H, W) floating or is empty, the two disagree in batch or device; or the
            power is not finite and above 0.

    Reference:
        Zagoruyko and Komodakis, "Paying More Attention to Attention: Improving the Performance of Convolutional
        Neural Networks via Attention Transfer", ICLR 2017, arXiv 1612.03928, activation-based attention.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[3.0, 0.0]], [[0.0, 4.0]]]])
        >>> at(student, teacher)
        tensor(0.5097)
        >>> at(2 * teacher, teacher)
        tensor(0.)
    """
    check_feature("student_map", student_map, dimensions=4, shape="(B, C, H, W)")
    check_feature("teacher_map", teacher_map, dimensions=4, shape="(B, C, H, W)")
    check_pair("student_map", student_map, "teacher_map", teacher_map)
    check_positive(power=power)
    student, teacher = same_size(*widen(student_map, teacher_map))
    return (_attention(student, power) - _attention(teacher, power)).square().mean()


class AT(nn.Module):
    """:func:`at` summed over the levels.

    Args:
        power: p, above 0.

    Raises:
        ValueError: the power is not finite and above 0.

    Example:
        >>> AT(power=4)
        AT(power=4)
    """

    per_sample = True

    def __init__(self, power: float = 2.0) -> None:
        super().__init__()
        check_positive(power=power)
        self.power = power

    def forward(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
        """Return the sum of :func:`at` over equally many (B, C, H, W) maps of both networks."""
        check_maps(student_maps, teacher_maps)
        pairs = zip(student_maps, teacher_maps, strict=True)
        return torch.stack([at(student, teacher, power=self.power) for student, teacher in pairs]).sum()

    extra_repr = settings_repr


def _attention(x: Tensor, power: float) -> Tensor:
    """Return the (B, H W) attention maps of length 1."""
    # The result does not depend on the map's scale, and powers of numbers up to 1 do not overflow. A negligible map
    # becomes zeros, because the slope of a power below 1 would overflow there.
    scale = x.detach().abs().amax((1, 2, 3), keepdim=True)
    x = x / torch.where(scale > negligible(x.dtype), scale, torch.inf)
    return unit_rows(_magnitude(x, power).mean(1).flatten(1))


def _magnitude(x: Tensor, power: float) -> Tensor:
    """Return |x|^p with a finite gradient at 0."""
    if power == 2:
        return x.square()
    if power >= 1:
        return x.abs().pow(power)
    zero = x == 0
    return x.abs().masked_fill(zero, 1.0).pow(power).masked_fill(zero, 0.0)
