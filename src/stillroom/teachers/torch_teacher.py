"""Torch teacher: a frozen network in this process."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from stillroom.batch import Batch, Output
from stillroom.input_format import InputFormat, InputTransform
from stillroom.models.fusion import fused_copy
from stillroom.models.model_parts import PartsReader
from stillroom.models.output import evaluating, logits_of
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import shard
from stillroom.teachers.offers import as_logits
from stillroom.teachers.teacher import Offer


class TorchTeacher:
    """A frozen network that predicts for its own view of the images.

    It computes on the CPU in float32 until :meth:`place` has moved it to the device of a run.

    Args:
        model: a classifier, or a network whose output is the embedding; its mode is restored after each prediction
            until it is placed.
        input_format: how it takes images.
        shares_input: whether the student takes images in the same format, so that ``batch.images`` can be used.
        class_count: length of its logits; 0 for embeddings.
        classes: the names of its classes; None if they are unknown.
        offers: what the network returns.
        identity: text that identifies all that determines its predictions.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        input_format: InputFormat,
        shares_input: bool,
        class_count: int,
        classes: tuple[str, ...] | None = None,
        offers: Offer = "logits",
        identity: str = "",
    ) -> None:
        self.model, self.input_format, self.shares_input = model, input_format, shares_input
        self.class_count, self.classes, self.offers, self.identity = class_count, classes, offers, identity
        self.bank_seconds = 0.0
        self._transform = InputTransform(input_format)
        self._reader: PartsReader | None = None
        self._machine: Machine | None = None
        self._runs = model

    def place(
        self,
        machine: Machine,
        pixels: Tensor,
        *,
        layout: torch.memory_format,
        reader: PartsReader | None = None,
        sharded: bool = False,
    ) -> None:
        """Move it to the device of a run, in evaluation mode.

        Args:
            machine: device, precision and rank of this process.
            pixels: two images as batches hold them, for tracing the network.
            layout: memory format of the images.
            reader: reads the parts of the network that a method needs; None for logits only.
            sharded: whether to shard its parameters over all processes.
        """
        self._machine, self._reader = machine, reader
        self._transform = InputTransform(self.input_format, machine.device, layout)
        self.model.eval()
        if sharded:
            shard(self.model, machine)
        else:
            self.model.to(device=machine.device).to(memory_format=layout)
        if reader is None and not sharded and machine.device.type == "cpu":
            self._runs = fused_copy(self.model, self._transform(pixels))

    def predict(self, batch: Batch) -> Output:
        """See :meth:`stillroom.teachers.teacher.Teacher.predict`; parts that the reader reads come with it.

        Without a reader the embedding of a network that gives one is the part "embedding".
        """
        machine, reader = self._machine, self._reader
        mode = evaluating(self.model) if machine is None else nullcontext()
        with mode, torch.no_grad(), nullcontext() if machine is None else machine.autocast():
            found = self._output(self.input_of(batch))
            parts = dict(found.parts) if reader is None else reader.read()
            if batch.strong_pixels is not None:
                strong = batch.strong if self.shares_input else None
                strong = self._transform(batch.strong_pixels) if strong is None else strong
                parts["logits_strong"] = self._output(strong).logits
                if reader is not None:
                    reader.release()
        return Output(found.logits, parts)

    def input_of(self, batch: Batch) -> Tensor:
        """The images of a batch as the network takes them."""
        if self.shares_input:
            return batch.images
        assert batch.pixels is not None
        return self._transform(batch.pixels)

    def close(self) -> None:
        """Remove the hooks of the reader."""
        if self._reader is not None:
            self._reader.close()

    def _output(self, images: Tensor) -> Output:
        """Logits, or empty ones and the embedding."""
        raw = logits_of(self._runs(images))
        if self.offers == "embedding":
            return Output(raw.new_zeros(len(raw), 0, dtype=torch.float32), {"embedding": raw.float()})
        return Output(as_logits(self.offers, raw))
