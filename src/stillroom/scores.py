"""The main score of a task: the number by which epochs, runs and methods are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Score:
    """A score in percent; more is better.

    Attributes:
        key: its name in records: ``val_KEY`` in an epoch's row, ``KEY`` in the summary's numbers of the teacher.
        label: its name in tables and on axes.
        words: the same in a sentence.
        file: name of the file in a run folder with the predictions that it is measured on.
    """

    key: str
    label: str
    words: str
    file: str

    @property
    def column(self) -> str:
        """Its name in the row of an epoch."""
        return f"val_{self.key}"


SCORES = {
    "classification": Score("top1", "top-1", "validation accuracy", "predictions.safetensors"),
    "detection": Score("ap", "AP", "validation AP", "detections.safetensors"),
}


def score_of(config: Mapping[str, Any]) -> Score:
    """The main score of a run, from its settings; runs of earlier versions are classification.

    Args:
        config: as :meth:`stillroom.engine.run_folder.RunFolder.config` returns it.
    """
    return SCORES[config.get("task", "classification")]
