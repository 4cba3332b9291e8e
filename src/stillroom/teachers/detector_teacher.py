"""Detector teacher: a frozen two-stage detector in this process."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from stillroom.batch import Batch, Output
from stillroom.data import DataSet
from stillroom.data.boxed_view import clear_padding
from stillroom.input_format import InputTransform
from stillroom.models.model_parts import PartsReader
from stillroom.models.output import evaluating
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import shard
from stillroom.tasks.detection import Detection, FoundBoxes, teacher_output
from stillroom.tasks.task import Batches
from stillroom.teachers.logit_fingerprint import Probe, probed_images, summed
from stillroom.teachers.torch_teacher import TorchTeacher


class DetectorTeacher(TorchTeacher):
    """A frozen detector; its predictions for a batch are its pyramid and its region head.

    The arguments are those of :class:`stillroom.teachers.torch_teacher.TorchTeacher`; images have the student's size.
    """

    def place(
        self,
        machine: Machine,
        pixels: Tensor,  # noqa: ARG002
        *,
        layout: torch.memory_format,
        reader: PartsReader | None = None,  # noqa: ARG002
        sharded: bool = False,
    ) -> None:
        """See :meth:`stillroom.teachers.torch_teacher.TorchTeacher.place`. The network is used as it is."""
        self._machine = machine
        self._transform = InputTransform(self.input_format, machine.device, layout)
        self.model.eval()
        if sharded:
            shard(self.model, machine)
        else:
            self.model.to(device=machine.device).to(memory_format=layout)

    def predict(self, batch: Batch) -> Output:
        """The pyramid, and "classify", a function from proposals to logits and embedding."""
        machine = self._machine
        with evaluating(self.model) if machine is None else nullcontext(), self._autocast():
            return teacher_output(self.model, self.input_of(batch))

    def detections(self, task: Detection, batches: Batches) -> FoundBoxes:
        """What it finds in validation images."""
        seen = (replace(batch, images=self.input_of(batch)) for batch in batches)
        return task.predict(self.model, seen, self._autocast())

    def input_of(self, batch: Batch) -> Tensor:
        """The images of a batch as the network takes them, padded with zeros."""
        if self.shares_input:
            return batch.images
        return clear_padding(super().input_of(batch), [target.size for target in batch.targets])

    def fingerprint(self, data: DataSet) -> Probe:
        """As :func:`stillroom.teachers.logit_fingerprint.probe`: from its logits for each image taken as one region."""
        found: Probe = []
        loader = probed_images(data).loader(batch_size=1, input_format=data.input_format, shuffle=False)
        for batch in loader.epoch(0):
            (target,) = batch.targets
            height, width = target.size
            whole = torch.tensor([[0.0, 0.0, width, height]])
            with evaluating(self.model), torch.random.fork_rng(devices=[]):
                logits, _ = self.predict(batch).parts["classify"]([whole])
            found += summed(logits)
        return found

    def _autocast(self) -> AbstractContextManager[None]:
        return nullcontext() if self._machine is None else self._machine.autocast()
