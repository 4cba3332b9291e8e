"""SEED against its equations, and its queue."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from stillroom.losses import EmbedQueue, embed_queue
from stillroom.losses.numerics import unit_rows
from tests.losses.draw import gradient_of
from tests.references.embed_queue import embed_queue as reference


def embedding(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("batch", "width", "length", "filled"), [(1, 2, 1, None), (4, 3, 6, None), (3, 5, 7, 4)])
def test_reference(batch: int, width: int, length: int, filled: int | None) -> None:
    student, teacher = embedding(batch, width).requires_grad_(), 3 * embedding(batch, width, seed=1)
    queue = 2 * embedding(length, width, seed=2)
    given = None if filled is None else torch.tensor(filled)
    ours = embed_queue(student, teacher, queue, student_temperature=0.3, teacher_temperature=0.1, filled=given)
    theirs = reference(student, teacher, list(queue[:filled]), 0.3, 0.1)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient_of(-2 * ours, student), -2 * gradient_of(theirs, student))


def test_equal_embeddings_at_equal_temperatures_are_the_optimum() -> None:
    teacher = embedding(5, 4)
    student = (3 * teacher).requires_grad_()
    loss = embed_queue(student, teacher, embedding(9, 4, seed=1), student_temperature=0.1, teacher_temperature=0.1)
    assert abs(loss) < 1e-14
    assert gradient_of(loss, student).abs().max() < 1e-14


def test_the_queue_holds_the_latest_embeddings_oldest_replaced_first() -> None:
    loss = EmbedQueue(size=5).connect(embedding(2, 3), embedding(2, 4, seed=1))
    batches = [embedding(count, 4, seed=seed).float() for seed, count in ((1, 2), (2, 2), (3, 2), (4, 8))]
    for batch in batches[1:3]:
        loss(embedding(2, 3).float(), batch)
    wanted = torch.cat([batches[2][1:], batches[0][1:], *batches[1:2], batches[2][:1]])
    torch.testing.assert_close(loss.queue, unit_rows(wanted))
    loss(embedding(8, 3).float(), batches[3])
    rows = {tuple(row) for row in loss.queue.tolist()}
    assert rows == {tuple(row) for row in unit_rows(batches[3][-5:]).tolist()}
    before = loss.queue.clone()
    loss.eval()(embedding(2, 3).float(), batches[0])
    assert torch.equal(loss.queue, before)


def test_a_copy_from_the_state_goes_on_alike() -> None:
    loss = EmbedQueue(size=7).connect(embedding(3, 3).float(), embedding(3, 4).float())
    student, teacher = embedding(3, 3, seed=5).float(), embedding(3, 4, seed=6).float()
    loss(student, teacher)
    twin = EmbedQueue(size=7).connect(embedding(3, 3, seed=8).float(), embedding(3, 4, seed=9).float())
    twin.load_state_dict(copy.deepcopy(loss.state_dict()))
    for _ in range(3):
        assert torch.equal(loss(student, teacher), twin(student, teacher))
    assert torch.equal(loss.queue, twin.queue)


def test_training_reduces_it() -> None:
    torch.manual_seed(0)
    student = embedding(40, 6).float()
    teacher = student @ embedding(6, 9, seed=2).float()
    loss = EmbedQueue(size=64, teacher_temperature=0.1).connect(student, teacher)
    optimizer = torch.optim.Adam(loss.parameters(), 0.05)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(student, teacher)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.7 * values[1]


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"queue has shape \(5, 3\): it must be \(K, 4\)"):
        embed_queue(embedding(2, 4), embedding(2, 4), embedding(5, 3))
    with pytest.raises(ValueError, match="teacher_temperature is 0"):
        EmbedQueue(teacher_temperature=0.0)
    with pytest.raises(ValueError, match="size is 0"):
        EmbedQueue(size=0)
