"""What several parts need."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

Rows = Iterator[tuple[str, str]]


def sized(device: torch.device, measured: Any, tried: Any) -> Any:
    """What a part is measured with on a GPU, or what is enough to try the script elsewhere."""
    return measured if device.type == "cuda" else tried


def networks(device: torch.device) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The published pair, untrained: speed does not depend on what they know."""
    from benchmarks import step

    return step.networks(sized(device, "resnet32x4-resnet8x4", "resnet20-resnet8"))


def value_and_gradient(
    loss: Callable[..., Tensor], logits: list[Tensor], extra: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """A loss and its gradient with respect to the student's logits."""
    student = logits[0].clone().requires_grad_()
    value = loss(student, logits[1], *extra)
    value.backward()
    assert student.grad is not None
    return value.detach(), student.grad


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """How long a call takes, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin
