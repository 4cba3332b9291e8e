"""The row of an epoch in metrics.jsonl."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stillroom.data import BatchLoader
from stillroom.engine.checkpoint import Progress
from stillroom.engine.evaluate import agreement, over_all_processes, score
from stillroom.engine.loaders import labelled_among_first
from stillroom.engine.training_job import Job
from stillroom.runtime.distributed import Group


def epoch_row(
    job: Job,
    now: Progress,
    lr: float,
    logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor | None,
    train: BatchLoader,
) -> dict[str, Any]:
    """The numbers of an epoch, over all processes, each of which must call this.

    Args:
        job: the run.
        now: its progress, at the end of the epoch.
        lr: largest learning rate of the last step.
        logits: this process's validation logits (N, C).
        labels: (N,), int64.
        teacher_logits: the teacher's (N, C), or None.
        train: loader of the training images.
    """
    group = Group(job.machine)
    result = over_all_processes(score(logits, labels), group) if job.has_accuracy else None
    same = None
    if teacher_logits is not None and job.has_agreement:
        same = group.mean(agreement(logits, teacher_logits), len(labels))
    means = now.losses[: now.step].mean(0).tolist()
    labelled = labelled_among_first(train, now.epoch, now.seen) if job.data.train.unlabelled else now.seen
    correct = float(group.total(now.correct))
    return {
        "epoch": now.epoch,
        "lr": lr,
        "loss": sum(means),
        "terms": dict(zip(job.method.term_names, means, strict=True)),
        "train_top1": 100 * correct / labelled if labelled and job.classifier_trained else None,
        "val_top1": result and result.top1,
        "val_top5": result and result.top5,
        "val_loss": result and result.loss,
        "agreement": same,
        "seconds": now.seconds,
        "bank_seconds": now.filling,
        "images_per_second": now.seen / max(now.seconds, 1e-9),
    }
