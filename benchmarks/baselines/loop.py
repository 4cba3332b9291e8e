"""The training loop of public distillation code: fp32, NCHW, no fusing, numbers read off at every step."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.baselines.ldrld import recursive_ldrld


class Epoch(NamedTuple):
    """An epoch's time in seconds, its mean loss and its training accuracy in percent."""

    seconds: float
    loss: float
    top1: float


def make_optimizer(student: nn.Module, lr: float = 0.05) -> torch.optim.SGD:
    """SGD as the published recipes set it, in PyTorch's default form."""
    return torch.optim.SGD(student.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)


def train_epoch(
    teacher: nn.Module,
    student: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
) -> Epoch:
    """Train for one epoch on cross-entropy plus LDRLD."""
    student.train()
    teacher.eval()
    total_loss, correct, seen = 0.0, 0, 0
    begin = time.perf_counter()
    device = next(student.parameters()).device
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        with torch.no_grad():
            teacher_logits = teacher(images)
        student_logits = student(images)
        loss = F.cross_entropy(student_logits, labels) + recursive_ldrld(student_logits, teacher_logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total_loss += loss.item() * len(labels)
        correct += (student_logits.argmax(dim=1) == labels).sum().item()
        seen += len(labels)
    return Epoch(time.perf_counter() - begin, total_loss / seen, 100 * correct / seen)
