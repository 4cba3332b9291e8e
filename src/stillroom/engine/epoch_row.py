"""The row of an epoch in metrics.jsonl."""

from __future__ import annotations

from typing import Any

from stillroom.data import BatchLoader
from stillroom.engine.checkpoint import Progress
from stillroom.engine.loaders import labelled_among_first
from stillroom.engine.training_job import Job
from stillroom.runtime.distributed import Group
from stillroom.tasks.task import Found


def epoch_row(
    job: Job, now: Progress, lr: float, found: Found, teacher: Found | None, train: BatchLoader
) -> dict[str, Any]:
    """The numbers of an epoch, over all processes, each of which must call this.

    Args:
        job: the run.
        now: its progress, at the end of the epoch.
        lr: largest learning rate of the last step.
        found: the student's predictions on this process's validation images.
        teacher: the teacher's, or None.
        train: loader of the training images.
    """
    group, task = Group(job.machine), job.task
    scores = task.evaluate(found, job.data.val, group) if job.has_accuracy else None
    same = task.agreement(found, teacher, group) if teacher is not None and job.has_agreement else None
    means = now.losses[: now.step].mean(0).tolist()
    labelled = labelled_among_first(train, now.epoch, now.seen) if job.data.train.unlabelled else now.seen
    correct = float(group.total(now.correct))
    train_correct = 100 * correct / labelled if labelled and job.classifier_trained else None
    return {
        "epoch": now.epoch,
        "lr": lr,
        "loss": sum(means),
        "terms": dict(zip(job.method.term_names, means, strict=True)),
        **task.row(train_correct, scores, same),
        "seconds": now.seconds,
        "bank_seconds": now.filling,
        "images_per_second": now.seen / max(now.seconds, 1e-9),
    }
