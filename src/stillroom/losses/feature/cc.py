"""CC, correlation congruence: errors of consecutive samples must not occur in the same embedding entries."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_embeddings, check_same_shape
from stillroom.losses.connectors import check_whole, not_connected
from stillroom.losses.finite import check_result
from stillroom.losses.numerics import widen
from stillroom.losses.protocol import settings_repr


def cc(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Compute correlation congruence in the form of the public benchmark code.

    With ``delta_b = |s_b - t_b|``, entry by entry, the loss is the mean over the B - 1 consecutive pairs of samples
    of ``<delta_b, delta_{b+1}>``; >= 0, and 0 where the embeddings agree. One sample has no successor: 0. The value
    depends on the order of the batch, which shuffling makes random. This is not the paper's kernel correlation matrix,
    but the loss behind the published CIFAR results.

    Args:
        student_embedding: (B, D), any floating dtype; computed in float32 at least.
        teacher_embedding: (B, D), the same width; no gradient reaches it.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: an embedding is not (B, D) floating or is empty, or the two disagree in shape or device.

    Reference:
        Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019, arXiv 1904.01802.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2, 2)
        >>> cc(student, teacher)
        tensor(11.)
    """
    check_embeddings(student_embedding, teacher_embedding)
    fix = "bring both to one width first, as the module CC does"
    check_same_shape("student_embedding", student_embedding, "teacher_embedding", teacher_embedding, fix=fix)
    loss = _congruence(*widen(student_embedding, teacher_embedding))
    return check_result(loss, student_embedding=student_embedding, teacher_embedding=teacher_embedding)


class CC(nn.Module):
    """:func:`cc` of two linear embeddings of the same width, both trained with the student.

    Args:
        dim: width of the embeddings, 1 or more.

    Raises:
        ValueError: dim is not a whole number from 1.

    Example:
        >>> import torch
        >>> loss = CC(dim=8).connect(torch.zeros(2, 3), torch.zeros(2, 5))
        >>> loss.student_embed, loss.teacher_embed
        (Linear(in_features=3, out_features=8, bias=True), Linear(in_features=5, out_features=8, bias=True))
    """

    student_embed: nn.Linear | None
    teacher_embed: nn.Linear | None

    def __init__(self, dim: int = 128) -> None:
        super().__init__()
        check_whole(1, dim=dim)
        self.dim = dim
        self.register_module("student_embed", None)
        self.register_module("teacher_embed", None)

    def connect(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Self:
        """Build the two embeddings for (B, D) and (B, E) examples."""
        check_embeddings(student_embedding, teacher_embedding)
        self.student_embed = nn.Linear(student_embedding.shape[1], self.dim, device=student_embedding.device)
        self.teacher_embed = nn.Linear(teacher_embedding.shape[1], self.dim, device=teacher_embedding.device)
        return self

    def forward(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
        """Return the loss of a (B, D) and a (B, E) embedding; the teacher's linear layer is trained, not the teacher.

        Raises:
            RuntimeError: nothing is connected yet.
        """
        if self.student_embed is None or self.teacher_embed is None:
            raise not_connected(self, "student_embedding, teacher_embedding")
        check_embeddings(student_embedding, teacher_embedding)
        student = self.student_embed(student_embedding.to(self.student_embed.weight.dtype))
        teacher = self.teacher_embed(teacher_embedding.detach().to(self.teacher_embed.weight.dtype))
        dtype = torch.promote_types(student.dtype, torch.float32)
        loss = _congruence(student.to(dtype), teacher.to(dtype))
        return check_result(loss, student_embedding=student_embedding, teacher_embedding=teacher_embedding)

    extra_repr = settings_repr


def _congruence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean product of consecutive samples' absolute differences."""
    delta = (student - teacher).abs()
    return (delta[:-1] * delta[1:]).sum() / max(delta.shape[0] - 1, 1)
