"""PKT, probabilistic knowledge transfer: neighbour probabilities in the embedding learn the teacher's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_embeddings
from stillroom.losses.numerics import or_one, widen

EPSILON = 1e-7  # the published guard, in the length of an embedding and in both logarithms


def pkt(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Compute probabilistic knowledge transfer's loss.

    Cosine similarities become a kernel in [0, 1], ``k_ij = (cos(x_i, x_j) + 1) / 2``, and each row a distribution
    over the batch, ``p_ij = k_ij / sum_j k_ij``, the sample itself included. The loss is the mean over all B^2
    entries of ``p^t_ij log(p^t_ij / p^s_ij)``, that is the mean of the rows' KL divergences divided by B. It is
    >= 0 up to the guard of 1e-7, and 0 where the angles between samples agree; scale and rotation of an embedding
    do not matter, and the widths may differ. One sample alone costs 0.

    The cosine of a zero embedding is 0 with everything, itself included.

    Args:
        student_embedding: (B, D), any floating dtype; computed in float32 at least.
        teacher_embedding: (B, E); no gradient reaches it.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: an embedding is not (B, D) floating or is empty, or the two disagree in batch or device.

    Reference:
        Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018,
        arXiv 1803.10837, with the cosine kernel.

    Example:
        >>> import torch
        >>> student, teacher = torch.ones(2, 3), torch.eye(2)
        >>> pkt(student, teacher)
        tensor(0.0283)
        >>> pkt(teacher, teacher)
        tensor(0.)
    """
    check_embeddings(student_embedding, teacher_embedding)
    student, teacher = widen(student_embedding, teacher_embedding)
    p_student, p_teacher = _neighbours(student), _neighbours(teacher)
    return (p_teacher * ((p_teacher + EPSILON).log() - (p_student + EPSILON).log())).mean()


class PKT(nn.Module):
    """:func:`pkt` as a module.

    Example:
        >>> PKT()
        PKT()
    """

    def forward(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
        """Return :func:`pkt` of a (B, D) and a (B, E) embedding."""
        return pkt(student_embedding, teacher_embedding)


def _neighbours(x: Tensor) -> Tensor:
    """Return the (B, B) probabilities, rows adding up to 1."""
    unit = _directions(x)
    with torch.autocast(x.device.type, enabled=False):
        cosine = unit @ unit.t()
    # Rounding may put a cosine below -1, and a probability below -1e-7 has no logarithm.
    kernel = ((cosine + 1) / 2).clamp_min(0.0)
    return kernel / kernel.sum(1, keepdim=True)


def _directions(x: Tensor) -> Tensor:
    """Return x / (|x| + 1e-7) per row, without squaring anything that over- or underflows."""
    peak = or_one(x.detach().abs().amax(1, keepdim=True))
    x = x / peak
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    # 1 for a zero row: its direction is zero either way, and its gradient is not multiplied by 1e7.
    return x / or_one(torch.where(length > 0, length + EPSILON / peak, 0.0))
