"""Early stopping: images held out of training judge every epoch, and end a run that no longer improves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from stillroom.batch import Batch
from stillroom.data import BatchLoader
from stillroom.engine.checkpoint import Progress
from stillroom.engine.loaders import stop_loader
from stillroom.engine.training_job import Job
from stillroom.runtime.distributed import Group
from stillroom.tasks.task import Found
from stillroom.teachers.teacher import Teacher

NO_BANK = -1  # epoch of the held-out images: a bank stores none of their logits
DIGITS = 6  # of a judgement in percent; other last digits under other numbers of processes do not decide

Batches = Callable[[BatchLoader, int], Iterator[Batch]]


class EarlyStopping:
    """Judges the weights that are exported on images held out of training.

    The judgement is the accuracy, or the agreement with the teacher where the images have no labels. Epochs of an
    initial stage, in which the student's classifier is not trained, are not judged.

    Args:
        job: the run.
        teacher: on its device; None without one.
    """

    def __init__(self, job: Job, teacher: Teacher | None) -> None:
        self._job, self._teacher, self._group = job, teacher, Group(job.machine)
        self._loader = stop_loader(job.stop_images, job.data, job.recipe, job.machine)
        self._teacher_found: Found | None = None

    def judge(self, model: nn.Module, epoch: int, batches: Batches) -> dict[str, float]:
        """The judgement of an epoch by its name in the epoch's row; empty where there is none.

        Every process has to call this.

        Args:
            model: with the weights of the epoch.
            epoch: counted from 1.
            batches: makes the batches of a loader's epoch.
        """
        loader, images = self._loader, self._job.stop_images
        if loader is None or images is None or epoch <= self._job.method.initial_epochs:
            return {}
        task = self._job.task
        found = task.predict(model, batches(loader, NO_BANK), self._job.machine.autocast())
        if not images.unlabelled:
            result = task.evaluate(found, images, self._group)
            return {f"stop_{task.score.key}": round(result[task.score.key], DIGITS)}
        if self._teacher_found is None:
            assert self._teacher is not None
            self._teacher_found = task.predict_teacher(self._teacher, batches(loader, NO_BANK))
        same = task.agreement(found, self._teacher_found, self._group)
        assert same is not None
        return {"stop_agreement": round(same, DIGITS)}

    def ended(self, now: Progress) -> bool:
        """Whether the run ends before its last epoch: the latest ``patience`` epochs brought no better judgement."""
        patience = self._job.recipe.run.patience
        score = self._job.task.score
        if patience is None or not now.rows or not {f"stop_{score.key}", "stop_agreement"} & now.rows[-1].keys():
            return False
        return int(now.rows[-1]["epoch"]) - int(now.best(score)["epoch"]) >= patience


def early_stop_record(job: Job, now: Progress) -> dict[str, Any]:
    """What the summary says about early stopping, under "early_stop"; empty without it."""
    if job.stop_images is None:
        return {}
    last = now.rows[-1]["epoch"]
    record = {
        "stopped": last < job.recipe.run.epochs,
        "epoch": last,
        "best_epoch": now.best(job.task.score)["epoch"],
        "images": len(job.stop_images),
    }
    return {"early_stop": record}


def stop_sentence(record: Mapping[str, Any], epochs: int) -> Sequence[str]:
    """A line for the user about a run that stopped early; none for a run that did not.

    Args:
        record: from :func:`early_stop_record`.
        epochs: of the whole run, as set.
    """
    found = record.get("early_stop", {})
    if not found.get("stopped"):
        return ()
    return (
        f"stopped after epoch {found['epoch']} of {epochs}: no epoch after {found['best_epoch']} was better on the "
        f"{found['images']:,} training images that are held out",
    )
