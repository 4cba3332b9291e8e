"""Training step: one module with student, connectors and losses, from a batch to the terms of the method."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from stillroom.batch import Batch, Output
from stillroom.engine.accumulation import Part
from stillroom.engine.random_state import seeded_at
from stillroom.methods import Method
from stillroom.methods.gradient_streams import values_by_stream
from stillroom.models.model_parts import PartsReader
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import Group
from stillroom.runtime.global_batch_norm import BatchNorms
from stillroom.tasks.task import Task


class TrainingStep(nn.Module):
    """The forward pass of a training step.

    It holds every parameter that is trained, as ``DistributedDataParallel`` requires.

    Args:
        student: the module to run, compiled or not.
        method: the losses with their connectors.
        reader: reads the parts of the student that the losses need; None for logits only.
        norms: the batch norms of both.
        machine: autocast, and the processes.
        seed: of the run, for losses and tasks that draw random numbers.
        task: what is learned.
    """

    def __init__(
        self,
        student: nn.Module,
        method: Method,
        reader: PartsReader | None,
        norms: BatchNorms,
        machine: Machine,
        seed: int,
        task: Task,
    ) -> None:
        super().__init__()
        self.student, self.method = student, method
        self._reader, self._norms, self._machine, self._seed = reader, norms, machine, seed
        self._group, self._task = Group(machine), task

    def forward(self, batch: Batch, teacher: Output | None, part: Part, epoch: int) -> tuple[Tensor, Tensor]:
        """Compute the terms of one part of an optimizer step.

        Args:
            batch: this process's images of the part.
            teacher: the teacher's output for them; None where no loss reads it.
            part: the place of the part in its step.
            epoch: counted from 1.

        Returns:
            (terms,): the weighted terms of the method. Their sum over the parts of a step, averaged over processes, is
            the loss of the step's whole batch. And the number of images classified correctly, int64 ().

        Raises:
            NotFinite: a loss that checks its result found NaN or infinity.
        """
        values, correct = self.by_stream((), batch, teacher, part, epoch)
        return values[""], correct

    def by_stream(
        self, streams: Sequence[str], batch: Batch, teacher: Output | None, part: Part, epoch: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Compute the terms as :meth:`forward`, sorted by gradient stream.

        Args:
            streams: of the optimizer; none keeps all terms together, under the empty name.
            batch: as in :meth:`forward`.
            teacher: as in :meth:`forward`.
            part: as in :meth:`forward`.
            epoch: counted from 1.

        Returns:
            (terms,) for each stream, with 0 for a term of another one, and the number of images classified correctly.
        """
        with self._machine.autocast():
            student = self._task.student_output(self.student, self._reader, batch, (self._seed, epoch))
            teacher = None if teacher is None else self._task.on_same_rows(teacher, student)
        with torch.no_grad():
            correct = self._task.correct(student, batch)
        return self._terms(streams, student, teacher, batch, part, epoch), correct

    def _terms(
        self,
        streams: Sequence[str],
        student: Output,
        teacher: Output | None,
        batch: Batch,
        part: Part,
        epoch: int,
    ) -> dict[str, Tensor]:
        """Every term, of this process's images or of the whole part where a loss relates samples to each other."""
        images = len(batch.labels)
        factor = self._group.loss_factor(batch, part.step_images)
        scope: AbstractContextManager[None] = nullcontext()
        target, by_image = self._task.target(batch, student), self._task.rows_are_images
        if by_image and self.method.relates_samples_in(epoch):
            student, teacher, batch = self._group.gather_step(student, teacher, batch, part.images, part.first_owner)
            target, images, scope = batch.labels, part.images, self._norms.on_whole_batch()
            factor = images / part.step_images
        labelled = None
        if part.labelled is not None:  # such that, with the factor, the sum is divided by all labels of the step
            labelled = torch.tensor(max(part.labelled, 1) * (images / part.step_images), device=batch.labels.device)
        drawing = seeded_at((self._seed, epoch, part.number)) if self.method.draws else nullcontext()
        with drawing, scope:
            given = (student, teacher, target, epoch, batch.ids, labelled, batch.mixture)
            if streams:
                values = values_by_stream(self.method, streams, self.method.values(*given, apart=len(streams) > 2))
            else:
                values = {"": torch.stack(list(self.method(*given).values()))}
        return {stream: each * factor for stream, each in values.items()} if factor != 1.0 else values
