"""Class-mapped teacher: a teacher whose predictions are mapped to the classes of the data."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stillroom.batch import Batch, Output
from stillroom.input_format import InputFormat
from stillroom.teachers.class_map import ClassMap
from stillroom.teachers.offers import one_hot_logits
from stillroom.teachers.teacher import Offer, Teacher


class ClassMapped:
    """A teacher whose predictions are mapped to the classes of the data.

    Args:
        teacher: predicts its own classes.
        class_map: from these to the classes of the data.
        classes: the names of the data's classes.
    """

    def __init__(self, teacher: Teacher, class_map: ClassMap, classes: Sequence[str]) -> None:
        self.teacher, self.class_map = teacher, class_map
        self.classes: tuple[str, ...] | None = tuple(classes)
        self.class_count = class_map.class_count
        self.offers: Offer = teacher.offers
        self.input_format: InputFormat = teacher.input_format
        self.identity = f"{teacher.identity} {class_map.identity}".strip()

    @property
    def bank_seconds(self) -> float:
        """The teacher's."""
        return self.teacher.bank_seconds

    def predict(self, batch: Batch) -> Output:
        """The teacher's output with "logits" and "logits_strong" of the data's classes; other parts as they are."""
        output = self.teacher.predict(batch)
        parts = {
            name: self._mapped(value) if name == "logits_strong" else value for name, value in output.parts.items()
        }
        return Output(self._mapped(output.logits), parts)

    def close(self) -> None:
        """Close the teacher."""
        self.teacher.close()

    def _mapped(self, logits: Tensor) -> Tensor:
        if self.offers == "labels":  # sums of one-hot logits would favour data classes with several teacher classes
            return one_hot_logits(self.class_map.label_map(logits.argmax(1)), self.class_count)
        return self.class_map.apply(logits)
