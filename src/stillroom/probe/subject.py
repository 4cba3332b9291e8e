"""Subject: a trained network that is probed, with its data set, its predictions and its embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stillroom.batch import Batch
from stillroom.data import DataSet
from stillroom.data.decoding_workers import worker_count
from stillroom.data.source import Source
from stillroom.engine.predictions import predictions_of, teacher_predictions_of, teacher_trouble
from stillroom.engine.resume_check import contents_of
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.input_format import InputFormat, InputTransform
from stillroom.models.model_parts import PartsReader
from stillroom.models.output import evaluating, logits_of
from stillroom.models.probe import probe_model
from stillroom.probe.probe_options import ProbeOptions
from stillroom.report.probe_record import student_record, teacher_record
from stillroom.restore import dataset_of, student_of, teacher_of
from stillroom.runtime.device import Machine
from stillroom.tasks.logits_file import Predictions
from stillroom.teachers.adapted_network import AdaptedNetwork

Change = Callable[[Tensor, Tensor], Tensor]  # pixels uint8 (B, C, H, W) and sample ids (B,) -> changed pixels


@dataclass(frozen=True)
class Subject:
    """The student of a finished run, or its teacher.

    Attributes:
        run: the finished run.
        role: which of its networks.
        options: of the probes; ``options.seed`` fixes all that is drawn.
        machine: the device.
    """

    run: RunFolder
    role: Literal["student", "teacher"]
    options: ProbeOptions
    machine: Machine

    @property
    def name(self) -> str:
        """For messages."""
        return self.run.path.name if self.role == "student" else f"the teacher of {self.run.path.name}"

    @property
    def record(self) -> Path | None:
        """The file for its results; None where there is no place for them."""
        return student_record(self.run) if self.role == "student" else teacher_record(self.run)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides its numbers: its weights, and the validation images where they were recorded."""
        config = self.run.config()
        if self.role == "teacher":
            weights = config["teacher_weights"]
        else:
            weights = hashlib.sha256(self.run.student.read_bytes()).hexdigest()[:16]
        return {"weights": weights, "images": contents_of(config)}

    @cached_property
    def data(self) -> DataSet:
        """The images as the run saw them; its validation images are ``data.val``.

        Raises:
            InputError: they cannot be loaded, or have changed.
        """
        return dataset_of(self.run)

    @cached_property
    def model(self) -> nn.Module:
        """The network, in evaluation mode on the device.

        Raises:
            InputError: it cannot be built again.
        """
        found = student_of(self.run, self.data) if self.role == "student" else teacher_of(self.run, self.data)
        if found is None:
            raise InputError(f"{self.run.path}: this run had no teacher")
        found = found.float().eval().requires_grad_(False)
        device = self.machine.device
        return found.place(device) if isinstance(found, AdaptedNetwork) else found.to(device)

    @cached_property
    def input_format(self) -> InputFormat:
        """How :attr:`model` takes images. A teacher that takes them at a size of its own gets them as stored."""
        found = self.data.input_format
        return replace(found, size=None) if isinstance(self.model, AdaptedNetwork) else found

    def predictions(self) -> Predictions:
        """The stored predictions on the validation images; no network is run.

        Raises:
            InputError: there are none.
        """
        if self.role == "student":
            return predictions_of(self.run)
        found = teacher_predictions_of(self.run)
        if found is None:
            raise InputError(f"{self.run.path}: {teacher_trouble(self.run) or 'this run had no teacher'}")
        return found

    def batches(self, source: Source) -> Iterator[Batch]:
        """The images of a source in its order, without augmentation: ``pixels`` uint8, ``images`` normalised.

        Args:
            source: with as many channels as the network takes.
        """
        loader = source.loader(
            batch_size=max(self.options.batch_size, source.least_val_batch), input_format=self.input_format,
            shuffle=False, device=self.machine.device, workers=worker_count(),
        )  # fmt: skip
        yield from loader.epoch(0)

    def logits(self, source: Source, change: Change | None = None) -> Tensor:
        """The logits of all images of a source, float32 (N, classes) on the CPU.

        Args:
            source: as for :meth:`batches`.
            change: of the pixels, before they are normalised; None for none.
        """
        with evaluating(self.model), torch.inference_mode():
            found = [logits_of(self.model(images)).float().cpu() for images in self._images(source, change)]
        return torch.cat(found)

    def embedding(self, source: Source, change: Change | None = None) -> Tensor:
        """The input of the last linear layer for all images of a source, float32 (N, width) on the CPU.

        Args:
            source: as for :meth:`batches`.
            change: as for :meth:`logits`.

        Raises:
            InputError: the network does not end in one linear layer.
        """
        found = []
        with evaluating(self.model), torch.inference_mode(), self._reader() as reader:
            for images in self._images(source, change):
                self.model(images)
                found.append(reader.read()["embedding"].flatten(1).cpu())
        return torch.cat(found)

    def _images(self, source: Source, change: Change | None) -> Iterator[Tensor]:
        layout = torch.contiguous_format
        normalised = InputTransform(self.input_format, self.machine.device, layout)
        for batch in self.batches(source):
            if change is None:
                yield batch.images
            else:
                assert batch.pixels is not None
                yield normalised(change(batch.pixels, batch.ids))

    @contextmanager
    def _reader(self) -> Iterator[PartsReader]:
        """A reader of the embedding in each forward pass."""
        images = next(self.batches(self.data.val.at(torch.arange(min(2, len(self.data.val)))))).images
        inner = model = self.model
        if isinstance(model, AdaptedNetwork):
            inner, images = model.network, model.inner_images(images)
        parts = probe_model(inner, images)
        if why := parts.lacks("embedding"):
            raise InputError(f"{self.name} has no embedding: {why}")
        reader = PartsReader(inner, parts, ["embedding"])
        try:
            yield reader
        finally:
            reader.close()
