"""Embedding MSE: the squared distance of the student's projected embedding from the teacher's embedding."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from stillroom.losses.checks import check_embeddings, check_same_shape
from stillroom.losses.embedding.projected_embedding import ProjectedEmbedding
from stillroom.losses.finite import check_result
from stillroom.losses.numerics import widen


def embed_mse(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Compute the mean squared difference of two embeddings.

    The mean over all elements of (s - t)^2. It is 0 only where the two agree.

    Args:
        student_embedding: (B, E), after the projector; any floating dtype, computed in float32 at least.
        teacher_embedding: (B, E), on the same device; no gradient reaches it.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: an embedding is not (B, E) floating or is empty, or the two disagree in shape or device.

    Reference:
        Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv 1412.6550, applied to embeddings.

    Example:
        >>> import torch
        >>> embed_mse(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]))
        tensor(5.)
    """
    check_embeddings(student_embedding, teacher_embedding)
    fix = "pass the student's embedding through a projector first, as EmbedMSE does"
    check_same_shape("student_embedding", student_embedding, "teacher_embedding", teacher_embedding, fix=fix)
    student, teacher = widen(student_embedding, teacher_embedding)
    loss = F.mse_loss(student, teacher)
    return check_result(loss, student_embedding=student_embedding, teacher_embedding=teacher_embedding)


class EmbedMSE(ProjectedEmbedding):
    """:func:`embed_mse` with a linear projector from the student's embedding to the teacher's width.

    Example:
        >>> import torch
        >>> student, teacher = torch.ones(2, 3), torch.ones(2, 5)
        >>> EmbedMSE().connect(student, teacher)(student, teacher).shape
        torch.Size([])
    """

    per_sample = True

    def forward(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
        """Return :func:`embed_mse` of a (B, D) and a (B, E) embedding.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        return embed_mse(self.projected(student_embedding, teacher_embedding), teacher_embedding)
