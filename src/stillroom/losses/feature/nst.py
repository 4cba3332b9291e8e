"""NST, neuron selectivity transfer: the spatial patterns of the student's channels learn the teacher's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_feature, check_maps, check_pair
from stillroom.losses.maps import same_size
from stillroom.losses.numerics import unit_rows, widen


def nst(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Compute neuron selectivity transfer's loss for one level.

    Every channel of a sample, as a vector over its N = H * W places, is scaled to length 1. The loss is the squared
    maximum mean discrepancy between the student's set of channels and the teacher's under the kernel
    ``k(a, b) = <a, b>^2``: the batch mean of ``mean k(t, t) + mean k(s, s) - 2 mean k(s, t)``, each a mean over all
    pairs of channels. It lies in [0, 2] and ignores the order, sign and scale of channels. The teacher's own part,
    a constant to the student, is included, so that equal maps give 0. Where the sizes differ, the larger map is
    average-pooled to the smaller.

    A channel that is zero everywhere stays zero.

    Args:
        student_map: (B, C, H, W), any floating dtype; computed in float32 at least.
        teacher_map: (B, C', H', W'); no gradient reaches it.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: a map is not (B, C, H, W) floating or is empty, or the two disagree in batch or device.

    Reference:
        Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", arXiv 1707.01219,
        with the polynomial kernel of degree 2.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 2.0]], [[3.0, 0.0]]]])
        >>> nst(student, teacher)
        tensor(0.5000)
        >>> nst(teacher.flip(1), teacher)
        tensor(0.)
    """
    check_feature("student_map", student_map, dimensions=4, shape="(B, C, H, W)")
    check_feature("teacher_map", teacher_map, dimensions=4, shape="(B, C, H, W)")
    check_pair("student_map", student_map, "teacher_map", teacher_map)
    pair = same_size(*widen(student_map, teacher_map))
    student, teacher = (unit_rows(x.flatten(2)) for x in pair)
    places, s, t = student.shape[2], student.shape[1], teacher.shape[1]
    with torch.autocast(student.device.type, enabled=False):
        # Both are exact and differ in cost: N^2 (C + C') products against N (C^2 + C'^2 + C C').
        if places * (s + t) <= s * s + t * t + s * t:
            return _over_places(student, teacher)
        return _over_channels(student, teacher)


class NST(nn.Module):
    """:func:`nst` summed over the levels.

    Example:
        >>> NST()
        NST()
    """

    per_sample = True

    def forward(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
        """Return the sum of :func:`nst` over equally many (B, C, H, W) maps of both networks."""
        check_maps(student_maps, teacher_maps)
        pairs = zip(student_maps, teacher_maps, strict=True)
        return torch.stack([nst(student, teacher) for student, teacher in pairs]).sum()


def _over_places(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the loss from the (B, N, N) second moments of the channels.

    ``<a, b>^2 = <a a^T, b b^T>``, so a mean of kernels is an inner product of mean outer products, and the
    discrepancy the squared distance between the two means.
    """
    moments = (x.transpose(1, 2) @ x / x.shape[1] for x in (student, teacher))
    return (next(moments) - next(moments)).square().sum((1, 2)).mean()


def _over_channels(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the loss from the Gram matrices of the channels, (B, C, C), (B, C', C') and (B, C, C')."""
    own, cross = _kernel_mean(student, student), _kernel_mean(student, teacher)
    return _kernel_mean(teacher, teacher) + own - 2 * cross


def _kernel_mean(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean of <a, b>^2 over samples and pairs of channels."""
    return (a @ b.transpose(1, 2)).square().mean()
