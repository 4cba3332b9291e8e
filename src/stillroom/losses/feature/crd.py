"""CRD, contrastive representation distillation: embeddings are contrasted with stored ones of other classes."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_embeddings, check_feature, check_pair, check_positive
from stillroom.losses.connectors import check_whole, not_connected
from stillroom.losses.kernels.crd import contrast
from stillroom.losses.numerics import unit_rows
from stillroom.losses.protocol import settings_repr
from stillroom.losses.tensors import check_tensor


class CRDTerms(NamedTuple):
    """The two directions of the loss, scalars, and the logarithms of their normalisers."""

    student: Tensor
    teacher: Tensor
    log_z: Tensor


def crd_terms(
    student_unit: Tensor,
    teacher_unit: Tensor,
    student_memory: Tensor,
    teacher_memory: Tensor,
    picks: Tensor,
    *,
    temperature: float = 0.07,
    log_z: Tensor | None = None,
) -> CRDTerms:
    """Compute the two directions of :func:`crd`, whose arguments and errors these are.

    Returns:
        Two scalars of the embeddings' dtype, and the (2,) log Z used.

    Example:
        >>> import torch
        >>> unit = torch.eye(2)
        >>> terms = crd_terms(unit, unit, unit, unit, torch.tensor([[0, 1], [1, 0]]), temperature=1.0)
        >>> terms.student, terms.log_z.exp()
        (tensor(0.9515), tensor([3.7183, 3.7183]))
    """
    check_embeddings(student_unit, teacher_unit)
    _check_memory(student_unit, student_memory, "student_memory")
    _check_memory(teacher_unit, teacher_memory, "teacher_memory")
    check_pair("student_unit", student_unit, "picks", picks)
    check_positive(temperature=temperature)
    if log_z is None:
        log_z = torch.full((2,), torch.nan, dtype=student_unit.dtype, device=student_unit.device)
    student, student_z = contrast(student_unit, teacher_memory, picks, log_z[0], temperature)
    teacher, teacher_z = contrast(teacher_unit, student_memory, picks, log_z[1], temperature)
    return CRDTerms(student, teacher, torch.stack((student_z, teacher_z)))


def crd(
    student_unit: Tensor,
    teacher_unit: Tensor,
    student_memory: Tensor,
    teacher_memory: Tensor,
    picks: Tensor,
    *,
    temperature: float = 0.07,
    log_z: Tensor | None = None,
) -> Tensor:
    """Compute contrastive representation distillation's loss from embeddings, memories and picks.

    CRD is the sum of two directions. One takes the embeddings e_b of one network and the other network's memory m.
    With the picked samples k = 0 (the same image) to K (negatives), N stored samples and ``c = K / N``,

        P_bk = exp(e_b . m_pick[b, k] / T) / Z
        L = 1/B * sum_b ( -log P_b0 / (P_b0 + c) - sum_{k > 0} log c / (P_bk + c) )

    the binary cross-entropy of deciding for every pick whether it is the same image. It is >= 0, and not 0 where the
    networks agree. Each term is computed from log P, so nothing over- or underflows at a low temperature. The forward
    pass computes the gradient, so the memories may change before backward. Double backward is not available.

    Args:
        student_unit: (B, D) student embeddings of length 1, float32 or float64.
        teacher_unit: (B, D) teacher embeddings of length 1, through a layer that learns too: not detached.
        student_memory: (N, D) stored student embeddings, same dtype; no gradient reaches it.
        teacher_memory: (N, D) stored teacher embeddings.
        picks: (B, K + 1) int64 rows of the memories, the sample itself in column 0.
        temperature: T, above 0.
        log_z: (2,) logarithms of Z of the student's and of the teacher's direction. None, or NaN in its place: N
            times the mean of exp(e . m / T) over these picks, a constant to the gradient.

    Returns:
        A scalar of the embeddings' dtype.

    Raises:
        ValueError: embeddings, memories or picks do not fit each other, or the temperature is not above 0.

    Reference:
        Tian, Krishnan and Isola, "Contrastive Representation Distillation", ICLR 2020, arXiv 1910.10699.

    Example:
        >>> import torch
        >>> unit = torch.eye(2)
        >>> crd(unit, unit, unit, unit, torch.tensor([[0, 1], [1, 0]]), temperature=1.0)
        tensor(1.9031)
    """
    memories = (student_memory, teacher_memory)
    terms = crd_terms(student_unit, teacher_unit, *memories, picks, temperature=temperature, log_z=log_z)
    return terms.student + terms.teacher


def update_memory(memory: Tensor, ids: Tensor, unit: Tensor, *, momentum: float = 0.5) -> None:
    """Move stored embeddings towards new ones and back to length 1, in place.

    Args:
        memory: (N, D); row i becomes ``momentum * row + (1 - momentum) * new``, scaled to length 1.
        ids: (B,) int64 rows to change. Where an id occurs twice, its last occurrence is used, on every device.
        unit: (B, D) new embeddings; detached.
        momentum: weight of the old embedding, in [0, 1].

    Example:
        >>> import torch
        >>> memory = torch.eye(2)
        >>> update_memory(memory, torch.tensor([1]), torch.tensor([[1.0, 0.0]]))
        >>> memory
        tensor([[1.0000, 0.0000],
                [0.7071, 0.7071]])
    """
    with torch.no_grad():
        rows = unit_rows(momentum * memory[ids] + (1 - momentum) * unit.detach().to(memory.dtype))
        # Equal ids write equal rows, so that the order of writing does not matter.
        place = torch.arange(len(ids), device=ids.device)
        last = ((ids[:, None] == ids) * place).amax(1)
        memory.index_copy_(0, ids, rows[last])


class CRD(nn.Module):
    """CRD with its own memories and negatives: it needs the embeddings and the sample ids.

    Each network's embedding goes through a linear layer to ``dim`` numbers and is scaled to length 1. Both layers are
    trained with the student. The memories hold the latest such embedding of every training sample. In training mode
    each forward pass draws negatives from other classes (with torch's default generator of the device), uniformly
    and with repeats, and afterwards updates the memories.

    Args:
        dim: width of the embedding space.
        negatives: K, drawn per sample.
        temperature: T, above 0.
        momentum: weight of the old embedding in a memory's update, at least 0 and below 1.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> import torch
        >>> loss = CRD(dim=8, negatives=4)
        >>> student, teacher = torch.randn(2, 6, generator=torch.Generator().manual_seed(0)), torch.ones(2, 10)
        >>> loss = loss.connect(student, teacher, train_labels=torch.tensor([0, 1, 1, 0, 2]))
        >>> loss(student, teacher, ids=torch.tensor([3, 1])).shape
        torch.Size([])
    """

    student_memory: Tensor
    teacher_memory: Tensor
    log_z: Tensor
    row_of: Tensor
    by_class: Tensor
    class_start: Tensor
    class_size: Tensor

    draws = True

    def __init__(
        self, dim: int = 128, negatives: int = 16384, temperature: float = 0.07, momentum: float = 0.5
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        check_whole(1, dim=dim, negatives=negatives)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}: it must be at least 0 and below 1")
        self.dim = dim
        self.negatives = negatives
        self.temperature = temperature
        self.momentum = momentum
        self.student_layer: nn.Linear | None = None
        self.teacher_layer: nn.Linear | None = None
        for name in ("student_memory", "teacher_memory", "log_z"):
            self.register_buffer(name, None)
        for name in ("row_of", "by_class", "class_start", "class_size"):  # computed from the labels
            self.register_buffer(name, None, persistent=False)

    def connect(self, student_embedding: Tensor, teacher_embedding: Tensor, train_labels: Tensor) -> Self:
        """Build the two layers, the two memories and the index of samples by class.

        Args:
            student_embedding: (B, D), an example.
            teacher_embedding: (B, E), an example on the same device.
            train_labels: (N,) int64, the label of each training sample by its id; -1 for ids that do not occur, as
                in a part of a larger set, which get no memory.

        Raises:
            ValueError: the embeddings do not fit each other; or the labels are not (N,) int64 with at least two
                classes.
        """
        check_embeddings(student_embedding, teacher_embedding)
        device = student_embedding.device
        labels, self.row_of = _present(train_labels.to(device))
        classes, counts, self.class_size = _count(labels)
        self.by_class = labels.argsort(stable=True)
        self.class_start = (counts.cumsum(0) - counts)[classes]
        self.student_layer = nn.Linear(student_embedding.shape[1], self.dim, device=device)
        self.teacher_layer = nn.Linear(teacher_embedding.shape[1], self.dim, device=device)
        # Uniform with this bound, a row has length 1 on average.
        bound, shape = math.sqrt(3 / self.dim), (len(labels), self.dim)
        self.student_memory = torch.empty(shape, device=device).uniform_(-bound, bound)
        self.teacher_memory = torch.empty(shape, device=device).uniform_(-bound, bound)
        self.log_z = torch.full((2,), torch.nan, device=device)  # NaN until the first batch
        return self

    def forward(self, student_embedding: Tensor, teacher_embedding: Tensor, ids: Tensor) -> Tensor:
        """Return the loss of (B, D) and (B, E) embeddings of the samples ``ids`` (B,).

        An id outside the training set raises the indexing's own error.
        """
        if self.student_layer is None or self.teacher_layer is None:
            raise not_connected(self, "student_embedding, teacher_embedding, train_labels")
        check_embeddings(student_embedding, teacher_embedding)
        check_tensor("ids", ids)
        if ids.dtype != torch.int64 or ids.dim() != 1:
            raise ValueError(f"ids has shape {tuple(ids.shape)} and dtype {ids.dtype}: it must be (B,) torch.int64")
        check_pair("student_embedding", student_embedding, "ids", ids)
        student = self._unit(self.student_layer, student_embedding)
        teacher = self._unit(self.teacher_layer, teacher_embedding.detach())
        memories = (self.student_memory, self.teacher_memory)
        rows = self.row_of[ids]
        picks = self.draw(rows)
        terms = crd_terms(student, teacher, *memories, picks, temperature=self.temperature, log_z=self.log_z)
        if self.training:
            self.log_z.copy_(terms.log_z)
            for memory, unit in zip(memories, (student, teacher), strict=True):
                update_memory(memory, rows, unit, momentum=self.momentum)
        return terms.student + terms.teacher

    def draw(self, rows: Tensor) -> Tensor:
        """Pick for each sample itself and, at random, ``negatives`` samples of other classes.

        With the samples sorted by class, all but one class's block are equally likely: a number below N minus the
        block's size, moved past the block if it would hit it or what follows.

        Args:
            rows: (B,) int64 places in the memory, which are the ids where every id occurs.

        Returns:
            (B, negatives + 1) int64 places.
        """
        start, size = self.class_start[rows, None], self.class_size[rows, None]
        # The remainder of a number this large is uniform to one part in 2^40 for up to 2^22 samples.
        number = torch.randint(2**62, (len(rows), self.negatives), device=rows.device)
        number = number % (len(self.by_class) - size)
        number = torch.where(number >= start, number + size, number)
        return torch.cat((rows[:, None], self.by_class[number]), 1)

    extra_repr = settings_repr

    def _unit(self, layer: nn.Linear, embedding: Tensor) -> Tensor:
        """Embed in the layer's dtype (or autocast's) and scale to length 1 in the memory's."""
        return unit_rows(layer(embedding.to(layer.weight.dtype)).to(self.student_memory.dtype))


def _check_memory(unit: Tensor, memory: Tensor, name: str) -> None:
    """Refuse a memory of another shape or dtype."""
    check_feature(name, memory, dimensions=2, shape="(N, D)")
    if memory.shape[1] != unit.shape[1] or memory.dtype != unit.dtype:
        raise ValueError(
            f"{name} has shape {tuple(memory.shape)} and dtype {memory.dtype}: it must be (N, {unit.shape[1]}) of "
            f"{unit.dtype}, like the embeddings"
        )


def _present(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The labels of the ids that occur, and each id's place among these (-1 for the others)."""
    if labels.dtype != torch.int64 or labels.dim() != 1:
        raise ValueError(
            f"train_labels has shape {tuple(labels.shape)} and dtype {labels.dtype}: it must be (N,) torch.int64"
        )
    present = labels >= 0
    return labels[present], torch.where(present, present.cumsum(0) - 1, -1)


def _count(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number the classes in order: each sample's class, each class's size, each sample's class's size."""
    _, classes, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise ValueError(
            f"train_labels has {len(counts)} class: negatives are drawn from other classes, give samples of 2 or more"
        )
    return classes, counts, counts[classes]
