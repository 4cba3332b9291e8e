"""Universal self-knowledge distillation by its definition: the ranks are counted class by class."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import log_softmax, row


def uskd_terms(student_logits: Tensor, weak_logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Target, non-target and weak part, each a mean over samples."""
    batch, classes = student_logits.shape
    log_qs = [log_softmax(row(student_logits, b, 1.0)) for b in range(batch)]
    squares = [torch.exp(log_qs[b][int(target[b])]).item() ** 2 for b in range(batch)]
    target_part, other_part, weak_part = 0 * (student_logits.sum() + weak_logits.sum()).double().expand(3)
    for b in range(batch):
        y, log_q, log_w = int(target[b]), log_qs[b], log_softmax(row(weak_logits, b, 1.0))
        target_part = target_part - (squares[b] + 1 - sum(squares) / batch) * log_q[y]
        for c in range(classes):
            weak_part = weak_part - ((0.9 if c == y else 0.0) + 0.1 / classes) * log_w[c]
        w = [torch.exp(one).item() for one in log_w]
        score = [w[c] / (1 - w[y] + 1e-6) + log_q[c].item() / (1 - log_q[y].item() + 1e-6) for c in range(classes)]
        shares = {}
        for c in range(classes):
            before = sum(score[o] > score[c] or (score[o] == score[c] and o < c) for o in range(classes))
            shares[c] = 1 / (before + 1)
        others = [c for c in range(classes) if c != y]
        log_others = log_softmax([student_logits[b, c].double() for c in others])
        for c, one in zip(others, log_others, strict=True):
            other_part = other_part - shares[c] / sum(shares[o] for o in others) * one
    return target_part / batch, other_part / batch, weak_part / batch
