"""Label revision by its definition: samples go to one of two piles, each with its own mean."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import log_softmax, row


def revision_terms(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, eta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy and squared logit difference of the first pile, squared probability difference of the second."""
    entropies, differences, revisions = [], [], []
    for b in range(student_logits.shape[0]):
        student, teacher = row(student_logits, b, 1.0), row(teacher_logits.detach(), b, 1.0)
        classes, y = range(len(student)), int(target[b])
        log_q = log_softmax(student)
        if all(teacher[c].item() < teacher[y].item() for c in classes if c != y):
            entropies.append(-log_q[y])
            differences.append(sum((student[c] - teacher[c]) ** 2 for c in classes) / len(classes))
        else:
            p = [torch.exp(log_p) for log_p in log_softmax(teacher)]
            beta = eta / (max(p) - p[y] + 1)
            revised = [beta * p[c] + ((1 - beta) if c == y else 0) for c in classes]
            revisions.append(sum((torch.exp(log_q[c]) - revised[c]) ** 2 for c in classes) / len(classes))
    nothing = 0 * student_logits.sum().double()
    cross_entropy, logits, revised_part = (
        nothing + sum(pile) / len(pile) if pile else nothing for pile in (entropies, differences, revisions)
    )
    return cross_entropy, logits, revised_part
