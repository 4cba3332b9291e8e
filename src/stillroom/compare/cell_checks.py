"""Checks of a comparison: every combination is built once before any is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

from stillroom.compare.grid import Cell, Grid
from stillroom.compare.grid_record import lies_elsewhere
from stillroom.compare.labels import is_same_model
from stillroom.data import DataSet
from stillroom.engine.resume_check import contents_of, differing
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.prepare.known_classes import known_classes
from stillroom.prepare.load_dataset import load_dataset, loading_options, with_task
from stillroom.prepare.models_and_method import set_up
from stillroom.prepare.name_checks import check_names
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.run_identity import data_fingerprints
from stillroom.prepare.set_up_detection import set_up_detection
from stillroom.prepare.start_notes import image_notes, training_notes
from stillroom.resolve_model import Fit, build, is_run
from stillroom.teachers.prepared_teacher import PreparedTeacher


def check_cells(grid: Grid, cells: Sequence[Cell], copies: int = 1) -> list[str]:
    """Build each pair with each method once, on the real images, so that mistakes show before training time is spent.

    Teachers that are not trained yet get random weights.

    Args:
        grid: the comparison.
        cells: those that are not finished.
        copies: how many processes of this machine will hold the images at the same time.

    Returns:
        Notes on the images and on each student, a line each.

    Raises:
        InputError: naming the run that cannot work and what to change.
    """
    to_train = {cell.name: cell for cell in grid.cells if cell.command == "train" and not cell.run.finished}
    kinds = {(cell.settings.get("teacher"), cell.student, cell.method): cell for cell in cells}
    recipes = {cell.name: cell.recipe for cell in kinds.values()}
    for cell in kinds.values():
        with _naming(cell):
            stand_in = nn.Identity() if cell.waits_for in to_train else None
            check_names(recipes[cell.name], Inputs(stand_in, trust=cell.trust))
    begun = _begun(grid)
    if not cells and lies_elsewhere(grid):
        last = grid.cells[-1]
        classes = known_classes(last.recipe, last.trust)
        _refuse_other_images(grid, load_dataset(last.recipe.data, classes=classes), begun)
    for cell in cells:
        _refuse_other_settings(cell, begun.get(cell.name, {}))
    loaded_as, data = None, None
    found: list[str] = []
    stand_ins: dict[str, nn.Module] = {}
    with torch.random.fork_rng():
        for cell in kinds.values():
            teacher, recipe = None, recipes[cell.name]
            wanted = loading_options(recipe.data), known_classes(recipe, cell.trust)
            if data is None or loaded_as != wanted:  # teachers from runs may bring another image size
                loaded_as = wanted
                data = load_dataset(recipe.data, copies, wanted[1])
                _refuse_other_images(grid, data, begun)
            with _naming(cell):
                if cell.waits_for in to_train:
                    model = to_train[cell.waits_for].settings["model"]
                    if model not in stand_ins:
                        stand_ins[model] = build(
                            "teacher", model, Fit.of(data), None, pretrained=False, trust=cell.trust
                        )
                    teacher = stand_ins[model]
                prepared = set_up_detection if data.task == "detection" else set_up
                setup = prepared(with_task(recipe, data), Inputs(teacher, trust=cell.trust), data)
                if teacher is None and setup.teacher is not None:
                    _refuse_other_teacher(cell, setup.teacher, begun)
            found += image_notes(setup.data, setup.earlier)
            found += [f"note: {cell.student or cell.name}: {note}" for note in training_notes(setup, recipe)]
    return list(dict.fromkeys(found))


def _begun(grid: Grid) -> dict[str, dict[str, Any]]:
    """The settings and inputs of the runs in a comparison's folder, by name; unreadable ones fail when they run."""
    found = {}
    for path in sorted(grid.folder.iterdir()) if grid.folder.is_dir() else ():
        with suppress(InputError):
            if is_run(path):
                found[path.name] = RunFolder(path).config()
    return found


def _refuse_other_settings(cell: Cell, there: Mapping[str, Any]) -> None:
    """Refuse to continue a cell that was begun with other settings; its inputs are compared when it runs."""
    asked = {key: value for key, value in cell.recipe.flat().items() if key in there and value not in (None, "auto")}
    fed = {key: there.get(key) for key in ("teacher_weights", "identity")}
    changed = differing({key: there[key] for key in asked} | fed, asked | fed)
    if changed:
        raise InputError(
            f"{cell.name} was begun with other settings ({'; '.join(changed[:3])}); nothing is overwritten: give "
            "another name=, or the same settings to continue it"
        )


def _refuse_other_images(grid: Grid, data: DataSet, begun: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse images and labels that differ from those of the runs that are there, wherever their files are now."""
    shape = list(data.input_shape)
    recorded = {name: known for name, there in begun.items() if (known := _recorded(there, shape)) is not None}
    now = data_fingerprints(data) if recorded else {}
    for name, known in recorded.items():
        if changed := [what for what in now if known.get(what) != now[what]]:
            raise InputError(
                f"{grid.folder} holds a comparison on other data: {', '.join(changed)} differ from those of {name}; "
                "give another name=, or the data it was begun with"
            )


def _recorded(there: Mapping[str, Any], shape: list[int]) -> dict[str, str] | None:
    # A teacher from a run may have brought another image size.
    return contents_of(there) if there.get("image_shape") == shape else None


def _refuse_other_teacher(cell: Cell, teacher: PreparedTeacher, begun: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a teacher of the same name with other weights than it had in the runs that are there."""
    name = str(cell.settings["teacher"])
    weights = teacher.weights
    for run, there in begun.items():
        known = there.get("teacher_weights")
        same = is_same_model(name, there.get("teacher")) and there.get("teacher_checkpoint") is None
        if same and known not in (None, weights):
            raise InputError(
                f"teacher={name} has other weights now than in {run}; bring back the old ones, or give another name="
            )


@contextmanager
def _naming(cell: Cell) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{cell.name}: {error}") from error
