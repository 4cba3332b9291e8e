"""Embedding cosine: the angle between the student's projected embedding and the teacher's embedding."""

from __future__ import annotations

from torch import Tensor

from stillroom.losses.checks import check_embeddings, check_same_shape
from stillroom.losses.embedding.projected_embedding import ProjectedEmbedding
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


class EmbedCosine(ProjectedEmbedding):
    """:func:`embed_cosine` with a linear projector from the student's embedding to the teacher's width.

    Example:
        >>> import torch
        >>> student, teacher = torch.ones(2, 3), torch.ones(2, 5)
        >>> EmbedCosine().connect(student, teacher)(student, teacher).shape
        torch.Size([])
    """

    per_sample = True

    def forward(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
        """Return :func:`embed_cosine` of a (B, D) and a (B, E) embedding.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        return embed_cosine(self.projected(student_embedding, teacher_embedding), teacher_embedding)
