"""SimKD, simple knowledge distillation: the student learns the teacher's final map and uses its classifier."""

from __future__ import annotations

from torch import Tensor, nn

from stillroom.losses.checks import check_feature, check_pair
from stillroom.losses.connectors import check_whole
from stillroom.losses.finite import check_result
from stillroom.losses.maps import same_size
from stillroom.losses.numerics import widen


def simkd(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Compute SimKD's loss: the mean squared difference of two maps.

    The mean is over samples, channels and places. Where the sizes differ, the larger map is average-pooled to the
    smaller, each side by itself.

    Args:
        student_map: (B, C, H, W), projected to the teacher's channels; any floating dtype, computed in float32 at
            least.
        teacher_map: (B, C, H', W'); no gradient reaches it.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: a map is not (B, C, H, W) floating or is empty, or the two disagree in batch, channels or device.

    Reference:
        Chen, Mei, Zhang, Wang, Feng and Chen, "Knowledge Distillation with the Reused Teacher Classifier", CVPR
        2022, arXiv 2203.14001.

    Example:
        >>> import torch
        >>> simkd(torch.zeros(1, 2, 2, 2), torch.full((1, 2, 4, 4), 3.0))
        tensor(9.)
    """
    check_feature("student_map", student_map, dimensions=4, shape="(B, C, H, W)")
    check_feature("teacher_map", teacher_map, dimensions=4, shape="(B, C, H, W)")
    check_pair("student_map", student_map, "teacher_map", teacher_map)
    if student_map.shape[1] != teacher_map.shape[1]:
        raise ValueError(
            f"student_map has {student_map.shape[1]} channels but teacher_map has {teacher_map.shape[1]}: SimKD trains "
            "a student wrapped in stillroom.models.reused_classifier.ReusedHead, whose projected map has the teacher's"
        )
    student, teacher = same_size(*widen(student_map, teacher_map))
    return check_result((student - teacher).square().mean(), student_map=student_map, teacher_map=teacher_map)


class SimKD(nn.Module):
    """:func:`simkd` of the final maps; the student is a :class:`stillroom.models.reused_classifier.ReusedHead`.

    Args:
        factor: how many times narrower than the teacher's final map the student's projector is inside, at least 1. It
            is declared to whoever builds the projector, as ``projector_factor``; the loss does not use it.

    Raises:
        ValueError: the factor is not a whole number from 1.

    Example:
        >>> SimKD()
        SimKD(factor=2)
    """

    per_sample = True
    reuses_head = True

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        check_whole(1, factor=factor)
        self.projector_factor = factor

    def forward(self, student_final_map: Tensor, teacher_final_map: Tensor) -> Tensor:
        """Return :func:`simkd` of (B, C, H, W) and (B, C, H', W') maps."""
        return simkd(student_final_map, teacher_final_map)

    def extra_repr(self) -> str:
        """Name the settings."""
        return f"factor={self.projector_factor}"
