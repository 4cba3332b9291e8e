"""Task: what is learned, how a model is called for it, and how it is scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from stillroom.batch import Batch, Output
from stillroom.data.source import Source
from stillroom.models.model_parts import PartsReader
from stillroom.runtime.distributed import Group
from stillroom.scores import Score

Found = Any  # a model's predictions for the images of one process; only the task that made them reads them
Row = dict[str, Any]
Batches = Iterable[Batch]


class Predicts(Protocol):
    """A teacher."""

    def predict(self, batch: Batch) -> Output:
        """The output for a batch, without gradients."""
        ...


class Task(Protocol):
    """What the training loop does not know about the data.

    Attributes:
        name: a key of :data:`stillroom.scores.SCORES`.
        score: the main score, which chooses the best epoch.
        rows_are_images: whether logits have a row for each image of the batch. Losses that relate rows then see those
            of all processes; otherwise those of their own process.
    """

    name: str
    score: Score
    rows_are_images: bool

    def student_output(
        self, student: nn.Module, reader: PartsReader | None, batch: Batch, place: tuple[int, int]
    ) -> Output:
        """The student's output in a training step, with its graph.

        Args:
            student: in training mode.
            reader: reads the parts that the losses need; None for logits only.
            batch: this process's images.
            place: seed and epoch, from which any random numbers follow together with the sample ids.

        Returns:
            Float32 logits, one row for whatever is classified, and the parts. Under "supervised" there may be the
            student's own loss on its targets, which takes the place of the cross-entropy.
        """
        ...

    def target(self, batch: Batch, student: Output) -> Tensor:
        """The labels of the rows of the student's logits, int64."""
        ...

    def on_same_rows(self, teacher: Output, student: Output) -> Output:
        """The teacher's output for the rows of the student's logits, without gradients."""
        ...

    def correct(self, student: Output, batch: Batch) -> Tensor:
        """The number of images of a training step that the student classifies correctly, int64 ()."""
        ...

    def forward(self, model: nn.Module, images: Tensor) -> object:
        """One pass of a model in evaluation mode over images (B, C, H, W), normalised; for counting its operations."""
        ...

    def predict(self, model: nn.Module, batches: Batches, autocast: AbstractContextManager[None]) -> Found:
        """A model's predictions in evaluation mode, without those of stand-ins."""
        ...

    def predict_teacher(self, teacher: Predicts, batches: Batches) -> Found:
        """A teacher's predictions in the same form."""
        ...

    def evaluate(self, found: Found, images: Source, group: Group) -> Row:
        """The scores over all processes, each of which must call this; the main one under ``score.key``.

        Args:
            found: of this process's images.
            images: the whole set.
            group: the processes of the run.
        """
        ...

    def agreement(self, found: Found, teacher: Found, group: Group) -> float | None:
        """Percentage of images for which student and teacher predict the same; None where that says nothing."""
        ...

    def row(self, train_correct: float | None, scores: Mapping[str, Any] | None, same: float | None) -> Row:
        """The task's numbers in the row of an epoch.

        Args:
            train_correct: percentage of training images classified correctly, or None.
            scores: from :meth:`evaluate`; None where nothing is measured.
            same: from :meth:`agreement`, or None.
        """
        ...

    def teacher_notes(self, scores: Mapping[str, Any], classes: int) -> Sequence[str]:
        """What to tell about a teacher's scores on the validation images."""
        ...

    def warning(self, rows: Sequence[Mapping[str, Any]], classes: int, lr: float) -> str:
        """What to tell at the end of a run that learned hardly anything; empty for others.

        Args:
            rows: of the epochs.
            classes: their number.
            lr: peak learning rate.
        """
        ...

    def gathered(self, found: Found, count: int, group: Group) -> Found:
        """The predictions of all processes for a set of ``count`` images, in the set's order, on the CPU."""
        ...

    def file_content(self, images: Source, found: Found) -> bytes:
        """The file with the predictions of :meth:`gathered`."""
        ...

    def file_size(self, images: Source, model: nn.Module) -> int:
        """About the bytes of that file for a set of images; the most where it depends on what a model finds in them."""
        ...

    def is_readable(self, path: Path, config: Mapping[str, Any]) -> bool:
        """Whether a file holds predictions for the images of a run's configuration."""
        ...
