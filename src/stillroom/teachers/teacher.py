"""Teacher: whatever predicts the outputs that a student learns from."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from stillroom.batch import Batch, Output
from stillroom.input_format import InputFormat
from stillroom.losses.protocol import OFFERS as OFFERS
from stillroom.losses.protocol import Offer as Offer


@runtime_checkable
class Teacher(Protocol):
    """A frozen classifier that predicts for batches of images.

    A teacher resizes and normalises ``batch.pixels`` to its own input format. ``Output.logits`` are float32
    (B, classes) on the device of the batch, whatever it offers: probabilities become their logarithm, which equals the
    logits up to a constant per image (:mod:`stillroom.teachers.offers`). A teacher of embeddings has no classes and
    empty logits (B, 0).

    Attributes:
        classes: the names of the classes that it predicts; None where nobody has named them.
        class_count: their number.
        offers: what its predictions are made from.
        input_format: how it takes images.
        identity: text that differs between two teachers whose predictions differ, whatever their device.
    """

    classes: tuple[str, ...] | None
    class_count: int
    offers: Offer
    input_format: InputFormat
    identity: str

    @property
    def bank_seconds(self) -> float:
        """Seconds spent on training predictions that were stored for later runs."""
        ...

    def predict(self, batch: Batch) -> Output:
        """The output for this process's part of a batch, without gradients.

        Args:
            batch: with ``pixels``. Where ``batch.stand_in`` is true, the output is not used.

        Returns:
            Logits; and "logits_strong" among the parts where ``batch.strong_pixels`` is given.
        """
        ...

    def close(self) -> None:
        """Release what it holds: hooks, sessions, connections."""
        ...
