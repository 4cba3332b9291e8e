"""The main score of a task: the number by which epochs, runs and methods are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillroom.errors import InputError


@dataclass(frozen=True, slots=True)
class Score:
    """A score in percent; more is better.

    Attributes:
        key: its name in records: ``val_KEY`` in an epoch's row, ``KEY`` in the summary's numbers of the teacher.
        label: its name in tables and on axes.
        name: the same in a sentence.
        meaning: in a few words.
        file: name of the file in a run folder with the predictions that it is measured on.
        per_image: whether it is the fraction of images for which one predicted class is correct. Then agreement with
            the teacher, calibration and a test over images exist.
        further: other scores of the same task, which are recorded beside it.
    """

    key: str
    label: str
    name: str
    meaning: str
    file: str
    per_image: bool = True
    further: tuple[Score, ...] = ()

    @property
    def words(self) -> str:
        """Its name as a number of a run."""
        return f"validation {self.name}"

    @property
    def title(self) -> str:
        """Its name at the beginning of a sentence."""
        return self.name[0].upper() + self.name[1:]

    @property
    def all(self) -> tuple[Score, ...]:
        """It and its further scores."""
        return (self, *self.further)

    @property
    def column(self) -> str:
        """Its name in the row of an epoch."""
        return f"val_{self.key}"


DETECTIONS = "detections.safetensors"


def _ap(key: str, label: str, meaning: str) -> Score:
    return Score(key, label, label, meaning, DETECTIONS, per_image=False)


SCORES = {
    "classification": Score(
        "top1",
        "top-1",
        "accuracy",
        "fraction of images for which the most probable class is correct",
        "predictions.safetensors",
    ),
    "detection": Score(
        "ap",
        "AP",
        "AP",
        "average precision: the area under precision over recall, mean over the classes and over the overlaps (IoU) "
        "0.5, 0.55, … 0.95 from which a box counts as found",
        DETECTIONS,
        per_image=False,
        further=(
            _ap("ap50", "AP50", "AP where a box counts as found from an overlap (IoU) of 0.5"),
            _ap("ap75", "AP75", "AP where a box counts as found from an overlap (IoU) of 0.75"),
            _ap("ap_small", "AP small", "AP of the objects of less than 32² pixels"),
            _ap("ap_medium", "AP medium", "AP of the objects of 32² to 96² pixels"),
            _ap("ap_large", "AP large", "AP of the objects of more than 96² pixels"),
        ),
    ),
}


def score_of(config: Mapping[str, Any]) -> Score:
    """The main score of a run, from its settings; runs of earlier versions are classification.

    Args:
        config: as :meth:`stillroom.engine.run_folder.RunFolder.config` returns it.

    Raises:
        InputError: the task is not known.
    """
    return SCORES[task_of(config)]


def task_of(config: Mapping[str, Any]) -> str:
    """The task of a run, as for :func:`score_of`."""
    task = config.get("task", "classification")
    if task not in [*SCORES]:  # a list, as the value may be of any kind
        raise InputError(f"task={task}: no score is known for it; the tasks are {', '.join(SCORES)}")
    return str(task)


def score_of_row(row: Mapping[str, Any]) -> Score:
    """The main score in an epoch's row: that whose column it has."""
    return next((score for score in SCORES.values() if score.column in row), SCORES["classification"])


def score_text(row: Mapping[str, Any], digits: int = 2) -> str:
    """The main score in an epoch's row, as in "57.50 %" or "AP 33.26 %, AP50 53.61 %"; empty where there is none."""
    score = score_of_row(row)
    if not isinstance(row.get(score.column), int | float):
        return ""
    if score.per_image:
        return f"{row[score.column]:.{digits}f} %"
    shown = [one for one in score.all[:2] if isinstance(row.get(one.column), int | float)]
    return ", ".join(f"{one.label} {row[one.column]:.{digits}f} %" for one in shown)
