"""The teacher of the trials, and how many of the images that judge the trials it was trained on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from stillroom.compare.grid import Cell
from stillroom.data.dataset import DataSet
from stillroom.engine.run_folder import RunFolder
from stillroom.engine.sample_hashes import seen_by
from stillroom.errors import InputError
from stillroom.prepare.leak_check import count_among
from stillroom.report.tuning_record import TRIALS_TEACHER
from stillroom.resolve_model import is_run
from stillroom.tune.tune_options import SAME


@dataclass(frozen=True)
class SearchTeacher:
    """The teacher of the trials.

    Attributes:
        name: as a tuning records it.
        place: its run folder; empty where it is the teacher of the final runs.
        cell: the run that trains it; None where the teacher exists already.
        seen: number of held-out images that it was trained on, as far as is known.
    """

    name: str
    place: str
    cell: Cell | None
    seen: int

    def of_trial(self, base: Cell) -> Cell:
        """The cell of a method with this teacher in the place of that of the final runs."""
        if not self.place:
            return base
        own = {"teacher": self.place, "teacher_pretrained": False, "teacher_checkpoint": None}
        waits_for = "" if self.cell is None else self.cell.name
        return dataclasses.replace(base, settings=base.settings | own, waits_for=waits_for)


def find_search_teacher(
    given: str | None, trained: Cell | None, base: Cell, hold_out: float, data: DataSet
) -> SearchTeacher:
    """Choose the teacher of the trials.

    Args:
        given: a run folder, "same" for the teacher of the final runs, or None: a teacher that the tuning trains is
            trained once more without the held-out images; one that exists is taken as it is.
        trained: the cell that trains the teacher of the final runs; None where that teacher exists.
        base: a cell of the final runs.
        hold_out: fraction of the training images of each class that the trials are judged by.
        data: the images of the trials.

    Raises:
        InputError: ``given`` is something else, or has images of another size than the teacher of the final runs.
    """
    folder = Path(base.settings["runs"])
    if given in (None, SAME):
        if trained is None:
            return SearchTeacher("", "", None, _seen(base.settings["teacher"], data))
        if given == SAME:
            return SearchTeacher("", "", trained, len(data.val))
        place = folder / TRIALS_TEACHER
        own = {"name": place.name, "runs": str(place.parent), "hold_out": hold_out}
        cell = dataclasses.replace(trained, name=place.name, settings=trained.settings | own)
        return SearchTeacher(TRIALS_TEACHER, str(place), cell, 0)
    if not is_run(given):
        raise InputError(
            f"search_teacher={given}: give the folder of a finished run that was trained without the held-out images "
            f"(hold_out={hold_out:g}), or {SAME}"
        )
    found = SearchTeacher(given, given, None, _seen(given, data))
    sizes = [cell.recipe.data.image_size for cell in (found.of_trial(base), base)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"search_teacher={given} has images of {sizes[0]} pixels, and teacher={base.settings['teacher']} of "
            f"{sizes[1]}; give image_size="
        )
    return found


def _seen(teacher: str, data: DataSet) -> int:
    return count_among(data, seen_by(RunFolder(Path(teacher)))) if is_run(teacher) else 0
