"""Classification: one label for each image, cross-entropy, top-1 and top-5 accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.batch import Batch, Output
from stillroom.data.source import Source
from stillroom.models.model_parts import PartsReader
from stillroom.models.predict import predict, predict_batch
from stillroom.reading import UnreadableError
from stillroom.runtime.distributed import Group
from stillroom.scores import SCORES
from stillroom.tasks.classification_score import (
    agreement,
    hardly_learned,
    over_all_processes,
    score,
    teacher_notes,
    what_to_try,
)
from stillroom.tasks.logits_file import content_size, file_content, read_logits
from stillroom.tasks.task import Batches, Predicts, Row

Classified = tuple[Tensor, Tensor]  # logits (N, C) and labels (N,) of this process's images


class Classification:
    """See :class:`stillroom.tasks.task.Task`. Logits have a row for each image."""

    name = "classification"
    score = SCORES["classification"]
    rows_are_images = True

    def student_output(
        self,
        student: nn.Module,
        reader: PartsReader | None,
        batch: Batch,
        place: tuple[int, int],  # noqa: ARG002
    ) -> Output:
        """Logits (B, C), those of the strong view where there is one, and the parts."""
        return predict_batch(student, reader, batch)

    def target(self, batch: Batch, student: Output) -> Tensor:  # noqa: ARG002
        """The labels of the images."""
        return batch.labels

    def on_same_rows(self, teacher: Output, student: Output) -> Output:  # noqa: ARG002
        """The teacher's output as it is."""
        return teacher

    def correct(self, student: Output, batch: Batch) -> Tensor:
        """The number of images whose main label has the largest logit; 0 for a stand-in."""
        if batch.stand_in:
            return torch.zeros((), dtype=torch.long, device=batch.labels.device)
        return (student.logits.argmax(1) == batch.main_labels).sum()

    def forward(self, model: nn.Module, images: Tensor) -> object:
        """The model's output."""
        return model(images)

    def predict(self, model: nn.Module, batches: Batches, autocast: AbstractContextManager[None]) -> Classified:
        """Logits and labels."""
        return predict(model, batches, autocast)

    def predict_teacher(self, teacher: Predicts, batches: Batches) -> Classified:
        """Logits and labels."""
        return predict_all(teacher, batches)

    def evaluate(self, found: Classified, images: Source, group: Group) -> Row:  # noqa: ARG002
        """The fields of :class:`stillroom.tasks.classification_score.Evaluation`."""
        return asdict(over_all_processes(score(*found), group))

    def agreement(self, found: Classified, teacher: Classified, group: Group) -> float | None:
        """Percentage of images with the same predicted class."""
        return group.mean(agreement(found[0], teacher[0]), len(found[1]))

    def row(self, train_correct: float | None, scores: Mapping[str, Any] | None, same: float | None) -> Row:
        """Training and validation accuracy, validation loss and agreement; None where they are not measured."""
        known = scores or {}
        measured = {f"val_{name}": known.get(name) for name in ("top1", "top5", "loss")}
        return {"train_top1": train_correct, **measured, "agreement": same}

    def teacher_notes(self, scores: Mapping[str, Any], classes: int) -> Sequence[str]:
        """The accuracy, and a warning if it is near chance."""
        return teacher_notes(scores["top1"], scores["count"], classes)

    def warning(self, rows: Sequence[Mapping[str, Any]], classes: int, lr: float) -> str:
        """Names an accuracy near chance, and what to try."""
        # Training accuracy lags in a short run, validation accuracy where batch norms average over many steps.
        known = [value for name in ("train_top1", "val_top1") if (value := rows[-1][name]) is not None]
        if not known or not (words := hardly_learned(max(known), classes)):
            return ""
        return f"accuracy ended at {words}; {what_to_try(rows[0]['loss'], rows[-1]['loss'], lr)}"

    def gathered(self, found: Classified, count: int, group: Group) -> Classified:
        """Logits and labels of all images."""
        logits, labels = (group.gather_set(rows, count).cpu() for rows in found)
        return logits, labels

    def file_content(self, images: Source, found: Classified) -> bytes:
        """See :mod:`stillroom.tasks.logits_file`."""
        return file_content(images, found[0])

    def file_size(self, images: Source, model: nn.Module) -> int:  # noqa: ARG002
        """Logits in half precision, a label and an id for each image."""
        return content_size(len(images), len(images.classes))

    def is_readable(self, path: Path, config: Mapping[str, Any]) -> bool:
        """Whether the file holds logits for the run's images."""
        with suppress(OSError, UnreadableError):
            read_logits(path, config)
            return True
        return False


@torch.no_grad()
def predict_all(teacher: Predicts, batches: Batches) -> Classified:
    """A teacher's logits (N, C) and the labels (N,) of batches, without those of stand-ins."""
    logits, labels = [], []
    for batch in batches:
        found = teacher.predict(batch).logits  # for stand-ins too: a sharded pass needs all processes
        if not batch.stand_in:
            logits.append(found)
            labels.append(batch.labels)
    return torch.cat(logits), torch.cat(labels)
