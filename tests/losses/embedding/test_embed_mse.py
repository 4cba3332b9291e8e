"""EmbedMSE against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stillroom.losses import EmbedMSE, embed_mse
from tests.losses.draw import gradient_of
from tests.references.embed_mse import embed_mse as reference


def embedding(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("batch", "width"), [(1, 1), (1, 5), (6, 3), (4, 17)])
def test_reference(batch: int, width: int) -> None:
    student, teacher = embedding(batch, width).requires_grad_(), 3 * embedding(batch, width, seed=1)
    ours, theirs = embed_mse(student, teacher), reference(student, teacher)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient_of(-2 * ours, student), -2 * gradient_of(theirs, student))


def test_equal_embeddings_are_the_optimum() -> None:
    teacher = embedding(5, 4)
    student = (teacher.clone()).requires_grad_()
    loss = embed_mse(student, teacher)
    assert abs(loss) < 1e-15
    assert gradient_of(loss, student).abs().max() < 1e-15


def test_the_projector_alone_can_learn_a_linear_map() -> None:
    torch.manual_seed(0)
    student = embedding(40, 6).float()
    teacher = student @ embedding(6, 9, seed=2).float()
    loss = EmbedMSE().connect(student, teacher)
    optimizer = torch.optim.Adam(loss.parameters(), 0.05)
    first = loss(student, teacher).item()
    for _ in range(200):
        optimizer.zero_grad()
        value = loss(student, teacher)
        value.backward()
        optimizer.step()
    assert value < 0.05 * first


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"through a projector first, as EmbedMSE does"):
        embed_mse(embedding(2, 3), embedding(2, 4))
    with pytest.raises(ValueError, match="teacher_embedding has batch size 3"):
        EmbedMSE().connect(embedding(2, 3), embedding(3, 3))
