"""Embedding queue, SEED: similarities to a queue of past teacher embeddings, compared by a KL divergence."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from stillroom.losses.checks import check_embeddings, check_feature, check_positive, check_same_shape
from stillroom.losses.connectors import check_whole
from stillroom.losses.embedding.projected_embedding import ProjectedEmbedding
from stillroom.losses.numerics import unit_rows, widen
from stillroom.losses.protocol import settings_repr


def embed_queue(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    queue: Tensor,
    *,
    student_temperature: float = 0.2,
    teacher_temperature: float = 0.01,
    filled: Tensor | None = None,
) -> Tensor:
    """Compute SEED's loss from embeddings and a queue of teacher embeddings.

    With embeddings of length 1, and for each sample the entries d_1 ... d_K of the queue and d_0 = t, its own teacher
    embedding,

        p_j = softmax_j(t . d_j / T_t),  q_j = softmax_j(s . d_j / T_s),  loss = 1/B * sum_b sum_j p_j log(p_j / q_j)

    SEED's own loss is the cross-entropy, which differs by the teacher's entropy, a constant with the same gradient.

    Args:
        student_embedding: (B, E), after the projector; any floating dtype, computed in float32 at least.
        teacher_embedding: (B, E), on the same device; no gradient reaches it.
        queue: (K, E), entries of any length, scaled to 1; no gradient reaches it.
        student_temperature: T_s, above 0.
        teacher_temperature: T_t, above 0.
        filled: number of entries of the queue, from the first, that count; None counts all.

    Returns:
        A scalar >= 0, float32 (float64 if an embedding is).

    Raises:
        ValueError: the embeddings or the queue do not fit each other, or a temperature is not above 0.

    Reference:
        Fang et al., "SEED: Self-supervised Distillation for Visual Representation", ICLR 2021, arXiv 2101.04731,
        section 3.2.

    Example:
        >>> student, teacher = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
        >>> embed_queue(student, teacher, torch.tensor([[0.0, 1.0]]), student_temperature=1.0, teacher_temperature=1.0)
        tensor(0.4621)
    """
    check_embeddings(student_embedding, teacher_embedding)
    fix = "pass the student's embedding through a projector first, as EmbedQueue does"
    check_same_shape("student_embedding", student_embedding, "teacher_embedding", teacher_embedding, fix=fix)
    check_feature("queue", queue, dimensions=2, shape="(K, E)")
    if queue.shape[1] != teacher_embedding.shape[1]:
        raise ValueError(
            f"queue has shape {tuple(queue.shape)}: it must be (K, {teacher_embedding.shape[1]}), like the embeddings"
        )
    check_positive(student_temperature=student_temperature, teacher_temperature=teacher_temperature)
    student, teacher = (unit_rows(x) for x in widen(student_embedding, teacher_embedding))
    entries = unit_rows(queue.detach().to(teacher.dtype))
    there = torch.ones(len(queue) + 1, dtype=torch.bool, device=queue.device)
    if filled is not None:
        there = torch.arange(len(queue) + 1, device=queue.device) <= filled  # the own embedding comes first
    log_q = _log_softmax(student, teacher, entries, there, student_temperature)
    log_p = _log_softmax(teacher, teacher, entries, there, teacher_temperature)
    return torch.where(there, log_p.exp() * (log_p - log_q), 0).sum(1).mean()


def _log_softmax(x: Tensor, own: Tensor, entries: Tensor, there: Tensor, temperature: float) -> Tensor:
    """Log-probabilities (B, K + 1) of each sample's own entry and those of the queue."""
    similarity = torch.cat([(x * own).sum(1, keepdim=True), x @ entries.T], 1) / temperature
    # Finite, so that no gradient is NaN; far below all others.
    return similarity.masked_fill(~there, -1e4 / temperature).log_softmax(1)


class EmbedQueue(ProjectedEmbedding):
    """:func:`embed_queue` with its queue and a linear projector from the student's embedding to the teacher's width.

    The queue starts with the examples that :meth:`connect` is given. In training mode each forward pass, after the
    loss is computed, replaces the oldest entries by the teacher embeddings of the batch. Queue and place are buffers,
    so that a resumed run goes on with the same queue. The projector is no part of the student.

    Args:
        size: K, length of the queue. SEED has 65,536 for ImageNet.
        student_temperature: T_s, above 0.
        teacher_temperature: T_t, above 0.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> student, teacher = torch.ones(2, 3), torch.ones(2, 5)
        >>> EmbedQueue(size=8).connect(student, teacher)(student, teacher).shape
        torch.Size([])
    """

    queue: Tensor
    written: Tensor

    # All processes compute the loss of the whole batch, so that their queues stay equal.
    per_sample = False

    def __init__(self, size: int = 4096, student_temperature: float = 0.2, teacher_temperature: float = 0.01) -> None:
        super().__init__()
        check_whole(1, size=size)
        check_positive(student_temperature=student_temperature, teacher_temperature=teacher_temperature)
        self.size = size
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.register_buffer("queue", None)
        self.register_buffer("written", None)  # number of embeddings ever written

    def connect(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Self:
        """Build the projector and the queue from examples (B, D) and (B, E).

        Raises:
            ValueError: the embeddings do not fit each other.
        """
        super().connect(student_embedding, teacher_embedding)
        device = teacher_embedding.device
        self.queue = torch.zeros(self.size, teacher_embedding.shape[1], device=device)
        self.written = torch.zeros((), dtype=torch.int64, device=device)
        self._write(teacher_embedding)
        return self

    def forward(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
        """Return :func:`embed_queue` of a (B, D) and a (B, E) embedding.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        loss = embed_queue(
            self.projected(student_embedding, teacher_embedding),
            teacher_embedding,
            self.queue.clone(),
            student_temperature=self.student_temperature,
            teacher_temperature=self.teacher_temperature,
            filled=self.written.clamp_max(self.size),
        )
        if self.training:
            self._write(teacher_embedding)
        return loss

    extra_repr = settings_repr

    @torch.no_grad()
    def _write(self, teacher_embedding: Tensor) -> None:
        """Replace the oldest entries; of a batch longer than the queue the last ones are kept."""
        new = unit_rows(teacher_embedding.detach()[-self.size :].to(self.queue.dtype))
        places = (self.written + torch.arange(len(new), device=new.device)) % self.size
        self.queue.index_copy_(0, places, new)
        self.written += len(new)
