"""Projected embedding: what losses on embeddings share, a linear projector to the teacher's width."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from stillroom.losses.checks import check_embeddings
from stillroom.losses.connectors import cast_for, linear_projector, not_connected


class ProjectedEmbedding(nn.Module):
    """A loss on embeddings with a linear projector from the student's embedding to the teacher's width.

    The projector is trained with the student. It is no part of the student.
    """

    projector: nn.Linear | None

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

    def projected(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
        """The student's embedding (B, D) in the teacher's width, (B, E).

        Raises:
            RuntimeError: :meth:`connect` was not called.
            ValueError: the embeddings do not fit each other.
        """
        if self.projector is None:
            raise not_connected(self, "student_embedding, teacher_embedding")
        check_embeddings(student_embedding, teacher_embedding)
        projected: Tensor = self.projector(cast_for(self.projector, student_embedding))
        return projected
