"""Every combination of a comparison is tried before any is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from stillroom.compare.grid import Cell, Grid
from stillroom.earlier import set_notes
from stillroom.errors import InputError
from stillroom.networks import build
from stillroom.prepare import Inputs, check_names, fit, load_pictures, notes


def check(grid: Grid, cells: Sequence[Cell], copies: int = 1) -> list[str]:
    """Build each pair with each method once, on the real pictures, so that a mistake shows before time is spent.

    Teachers that are not trained yet stand in with random weights.

    Args:
        grid: the comparison.
        cells: those that are still to do.
        copies: how many processes of this machine are to hold the images at the same time.

    Returns:
        What is good to know of the images and of each student before training begins, each a line.

    Raises:
        InputError: naming the run that cannot work and what to change.
    """
    to_train = {cell.name: cell for cell in grid.cells if cell.command == "train" and not grid.run(cell).finished}
    kinds = {(cell.settings.get("teacher"), cell.student, cell.method): cell for cell in cells}
    recipes = {cell.name: cell.recipe for cell in kinds.values()}
    for cell in kinds.values():
        with _naming(cell):
            check_names(recipes[cell.name], Inputs(teacher=nn.Identity() if cell.waits_for in to_train else None))
    options, data = None, None
    found: list[str] = []
    stand_ins: dict[str, nn.Module] = {}
    with torch.random.fork_rng():
        for cell in kinds.values():
            teacher, recipe = None, recipes[cell.name]
            if data is None or options != recipe.data:  # teachers from runs may have seen other sizes
                options = recipe.data
                data = load_pictures(options, copies)
            with _naming(cell):
                if cell.waits_for in to_train:
                    model = to_train[cell.waits_for].settings["model"]
                    teacher = stand_ins.get(model) or build("teacher", model, data, None, pretrained=False)
                    stand_ins[model] = teacher
                fitted = fit(recipe, Inputs(teacher=teacher), data)
            found += set_notes(fitted.data, fitted.earlier)
            found += [f"note: {cell.student or cell.name}: {note}" for note in notes(fitted, recipe)]
    return list(dict.fromkeys(found))


@contextmanager
def _naming(cell: Cell) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{cell.name}: {error}") from error
