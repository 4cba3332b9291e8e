"""Accuracy, loss and agreement of logits on a set of images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from stillroom.runtime.distributed import Group

HARDLY = 0.06  # fraction of the range from chance to 100 %; diverged students ended between 0.01 and 0.05 of it


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one pass over a set of images.

    Attributes:
        top1: fraction of images whose label has the largest logit, in percent.
        top5: fraction of images whose label is among the five largest logits, in percent.
        loss: mean cross-entropy.
        count: number of images.
    """

    top1: float
    top5: float
    loss: float
    count: int


def score(logits: Tensor, labels: Tensor) -> Evaluation:
    """Accuracy and loss of logits (N, C) against labels (N,)."""
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    top1, top5 = (100 * float(hits.double().mean()) for hits in (ranked[:, 0], ranked.any(1)))
    return Evaluation(top1, top5, float(F.cross_entropy(logits, labels)), len(labels))


def over_all_processes(part: Evaluation, group: Group) -> Evaluation:
    """Combine the metrics of all processes' images; every process must call this.

    Args:
        part: metrics of this process's images.
        group: the processes of the run.
    """
    means = {f: group.mean(getattr(part, f), part.count) for f in ("top1", "top5", "loss")}
    return Evaluation(**means, count=sum(group.from_all(part.count)))


def agreement(logits: Tensor, others: Tensor) -> float:
    """Percentage of images for which two models predict the same class; both logits are (N, C)."""
    return 100 * float((logits.argmax(1) == others.argmax(1)).double().mean())


def hardly_learned(top1: float, classes: int) -> str:
    """Describe an accuracy in percent that is hardly better than chance; empty if it is clearly better.

    Example:
        >>> hardly_learned(9.2, 20), hardly_learned(95.0, 2)
        ('9.2 % (chance is 5.0 %)', '')
    """
    chance = 100 / classes
    return "" if top1 - chance > HARDLY * (100 - chance) else f"{top1:.1f} % (chance is {chance:.1f} %)"


def what_to_try(first_loss: float, last_loss: float, lr: float) -> str:
    """Advice for a run that learned hardly anything: a lower learning rate where its loss rose over the epochs.

    Example:
        >>> what_to_try(10.7, 12.4, 0.05)
        'the loss rose, try a lower learning rate (lr=0.01)'
    """
    rose = last_loss > 1.01 * first_loss  # a rise above 1 % is more than noise
    if rose:
        return f"the loss rose, try a lower learning rate (lr={lr / 5:g})"
    return "train for more epochs, or at another learning rate"


def teacher_notes(top1: float, count: int, classes: int) -> list[str]:
    """What to tell about a teacher.

    Args:
        top1: its accuracy in percent.
        count: number of validation images.
        classes: number of its classes.
    """
    notes = [f"teacher: {top1:.2f} % top-1 on {count:,} validation images"]
    if words := hardly_learned(top1, classes):
        notes.append(
            f"warning: the teacher's accuracy is {words}; check its weights, the order of the classes, and mean/std"
        )
    return notes
