"""Embedding cosine: the angle between the student's projected embedding and the teacher's embedding."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from stillroom.losses.checks import check_embeddings, check_same_shape
from stillroom.losses.connectors import cast_for, linear_projector, not_connected
from stillroom.losses.numerics import unit_rows, widen


def embed_cosine(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Compute the cosine distance of two embeddings.

    The mean over samples of 1 - cos(s, t), between 0 and 2. It is 0 where the directions are equal, whatever the
    lengths. A zero vector has cosine 0 with everything.

    Args:
        student_embedding: (B, E), after the projector; any floating dtype, computed in float32 at least.
        teacher_embedding: (B, E), on the same device; no gradient reaches it.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: an embedding is not (B, E) floating or is empty, or the two disagree in shape or device.

    Reference:
        The negative cosine similarity of Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, arXiv 2006.07733,
        equation 2 (half of its value), with a fixed teacher as target.

    Example:
        >>> import torch
        >>> embed_cosine(torch.tensor([[3.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
        tensor(0.4000)
    """
    check_embeddings(student_embedding, teacher_embedding)
    fix = "pass the student's embedding through a projector first, as EmbedCosine does"
    check_same_shape("student_embedding", student_embedding, "teacher_embedding", teacher_embedding, fix=fix)
    student, teacher = widen(student_embedding, teacher_embedding)
    return (1 - (unit_rows(student) * unit_rows(teacher)).sum(1)).mean()


class EmbedCosine(nn.Module):
    """:func:`embed_cosine` with a linear projector from the student's embedding to the teacher's width.

    The projector is trained with the student. It is no part of the student.

    Example:
        >>> import torch
        >>> student, teacher = torch.ones(2, 3), torch.ones(2, 5)
        >>> EmbedCosine().connect(student, teacher)(student, teacher).shape
        torch.Size([])
    """

    projector: nn.Linear | None

    per_sample = True

    def __init__(self) -> None:
        super().__init__()
        self.projector = None

    def connect(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Self:
        """Build the projector from examples (B, D) and (B, E).

        Raises:
            ValueError: the embeddings do not fit each other.
        """
        check_embeddings(student_embedding, teacher_embedding)
        self.projector = linear_projector(student_embedding, teacher_embedding)
        return self

    def forward(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
        """Return :func:`embed_cosine` of a (B, D) and a (B, E) embedding.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        if self.projector is None:
            raise not_connected(self, "student_embedding, teacher_embedding")
        check_embeddings(student_embedding, teacher_embedding)
        return embed_cosine(self.projector(cast_for(self.projector, student_embedding)), teacher_embedding)
