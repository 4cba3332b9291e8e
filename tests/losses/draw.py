"""Random logits for property tests: hypothesis picks shape, scale and seed, torch fills in the numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

QUICK = settings(max_examples=30, deadline=None)


@dataclass(frozen=True)
class Logits:
    """Two networks' float64 logits with labels."""

    student: Tensor
    teacher: Tensor
    target: Tensor


def make(batch: int, classes: int, seed: int, scale: float = 4.0) -> Logits:
    """Normal logits of a given scale."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, batch, classes, generator=generator, dtype=torch.float64)
    target = torch.randint(classes, (batch,), generator=generator)
    return Logits(student, teacher, target)


@st.composite
def logits(draw: st.DrawFn, max_classes: int = 12, scales: tuple[float, ...] = (0.1, 1.0, 5.0, 50.0)) -> Logits:
    """Logits of 1 to 4 samples and 2 to ``max_classes`` classes."""
    batch, classes = draw(st.integers(1, 4)), draw(st.integers(2, max_classes))
    return make(batch, classes, draw(st.integers(0, 10_000)), draw(st.sampled_from(scales)))


def gradient_of(loss: Tensor, student: Tensor) -> Tensor:
    """The gradient of a loss at a leaf."""
    (gradient,) = torch.autograd.grad(loss, student, retain_graph=True)
    return gradient
