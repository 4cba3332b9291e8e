"""From a comparison's options to its cells: one run a cell, each with a name, its settings and what it waits for."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stillroom.compare.labels import as_given, is_same_model, own_name, shortened
from stillroom.compare.options import CompareOptions, methods_of, models_of, seeds_of
from stillroom.config import MAY_CHANGE, Recipe, RunOptions, make_recipe
from stillroom.engine.resume_check import differing, same_setting
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError, first_line
from stillroom.methods import parse_method
from stillroom.prepare.load_dataset import with_image_size
from stillroom.prepare.weight_sources import check_source
from stillroom.reading import UnreadableError, read_yaml
from stillroom.report.comparison_file import NAME, read_description, write_description
from stillroom.resolve import is_run
from stillroom.run_names import PORTABLE, PORTABLE_WORDS, slug
from stillroom.trust import NOTHING, Trust


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Attributes:
        name: of its run folder.
        command: what makes it.
        settings: for :func:`stillroom.config.make_recipe`.
        waits_for: name of the teacher's cell, or nothing for a teacher that is there.
        fills: the part of the teacher bank that this run fills or reads; nothing where it uses none.
        student: the student's name.
        method: the method's label.
        trust: what is permitted for the models and methods of the comparison.
    """

    name: str
    command: Literal["train", "distill"]
    settings: dict[str, Any]
    waits_for: str = ""
    fills: tuple[Any, ...] = ()
    student: str = ""
    method: str = ""
    trust: Trust = NOTHING

    @property
    def recipe(self) -> Recipe:
        """All settings, checked."""
        return with_image_size(make_recipe(self.command, self.settings))

    @property
    def epochs(self) -> int:
        """Passes over the training images."""
        return int(self.settings["epochs"])


@dataclass(frozen=True)
class Grid:
    """A whole comparison.

    Attributes:
        folder: holds a run folder a cell, the teacher bank and the page.
        cells: the teachers' first, then seed by seed, so that an early look compares like with like.
        record: what ``comparison.yaml`` says: labels, axes, settings.
    """

    folder: Path
    cells: tuple[Cell, ...]
    record: dict[str, Any] = field(repr=False)

    def run(self, cell: Cell) -> RunFolder:
        """A cell's run folder."""
        return RunFolder(self.folder / cell.name, cell.trust)


def make_grid(options: CompareOptions, settings: dict[str, Any], trust: Trust = NOTHING) -> Grid:
    """Lay out the cells of a comparison and check every setting of every one.

    Args:
        options: the axes.
        settings: what all runs have in common: fields of the data, optimizer and run groups of a recipe.
        trust: what is permitted for the models and methods; by default nothing is imported.

    Raises:
        InputError: for anything that cannot work.
    """
    _check(options)
    teachers, students = models_of(options, "teachers"), models_of(options, "students")
    methods = methods_of(options)
    seeds = seeds_of(options)
    _refuse_clashes(options, teachers, students, methods)
    settings = {"epochs": RunOptions.epochs, **settings}
    name = settings.pop("name", None) or "-".join(
        slug(part) for part in ("compare", *shortened(teachers, {}), Path(str(settings.get("data", ""))).name)
    )
    if not PORTABLE.fullmatch(name):
        raise InputError(f"name={name}: give {PORTABLE_WORDS}")
    folder = Path(settings.pop("runs", None) or RunOptions.runs) / name
    there = read_description(folder)
    teachers = shortened(teachers, as_given(folder, there.teachers, teachers))
    students = shortened(students, there.students)
    settings = {**settings, "runs": str(folder), "bank": settings.get("bank") or str(folder / "bank")}

    trained = {label: _teacher_cell(options, text, label, settings) for label, text in teachers.items()}
    places = {label: teachers[label] if own is None else str(folder / own.name) for label, own in trained.items()}
    kinds = {label: parse_method(method.text, trust.of(method.text)) for label, method in methods.items()}
    cells = [cell for cell in trained.values() if cell is not None]
    for seed, teacher, student, method in itertools.product(seeds, teachers, students, methods):
        own, kind = trained[teacher], kinds[method]
        chosen: dict[str, Any] = {"teacher": places[teacher], "student": students[student], "seed": seed}
        chosen |= {"method": methods[method].text, **methods[method].settings}
        chosen |= _weights(options, students[student], teachers[teacher] if own is None else None)
        parts = (student, "from", teacher, method, f"s{seed}")
        cells.append(
            Cell(
                name="-".join(slug(part) for part in parts),
                command="distill",
                settings=settings | chosen,
                waits_for="" if own is None else own.name,
                fills=(teacher, seed, kind.needs_strong) if kind.needs_teacher and kind.bankable else (),
                student=student,
                method=method,
            )
        )
    named = _named(cells, trust)
    record = {
        "reference": options.reference or "",
        "teachers": {label: teachers[label] if own is None else own.name for label, own in trained.items()},
        "students": students,
        "methods": {label: method.content for label, method in methods.items()},
        "seeds": seeds,
        "settings": {k: v for k, v in settings.items() if k not in MAY_CHANGE and v is not None}
        | {"teacher_epochs": options.teacher_epochs},
    }
    _check_recipes(named)
    return Grid(folder, tuple(named), record)


def joined_record(grid: Grid) -> dict[str, Any]:
    """The grid's record, with the axes of an earlier call on the same folder.

    Raises:
        InputError: if the folder holds a comparison with other settings, or something else.
    """
    path = grid.folder / NAME
    if path.exists():
        return _joined(path, grid.record)
    if grid.folder.exists() and _foreign(grid):
        raise InputError(
            f"{grid.folder} holds other files and no comparison; nothing is overwritten, give another name="
        )
    return grid.record


def lies_elsewhere(grid: Grid) -> bool:
    """Whether the data is given by another path than in an earlier call on the same folder."""
    path = grid.folder / NAME
    if not path.exists():
        return False
    old, new = _read_record(path, grid.record)["settings"], grid.record["settings"]
    return not all(same_setting(name, old.get(name), new.get(name)) for name in ("data", "root"))


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write ``comparison.yaml``.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        write_description(folder, record)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); choose another runs= folder") from error


def _foreign(grid: Grid) -> bool:
    """Whether a folder without a record holds anything but runs of this comparison."""
    known = {cell.name for cell in grid.cells} | {"bank", "logs"}
    return any(entry.name not in known and not entry.name.startswith(".") for entry in grid.folder.iterdir())


def _read_record(path: Path, like: Mapping[str, Any]) -> dict[str, Any]:
    try:
        there = read_yaml(path)
        found = {key: there[key] for key in like}
    except UnreadableError:
        raise
    except (OSError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}); give another name=") from error
    for key, value in found.items():
        whole = key != "seeds" or (isinstance(value, list) and all(type(seed) is int for seed in value))
        if not whole or not isinstance(value, type(like[key])):
            raise InputError(f"{path} cannot be read ({key}={value!r} is of another kind); give another name=")
    return found


def _joined(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """An earlier record with the new axes added to it."""
    old = _read_record(path, record)
    # Whether the data is the same is seen when it is loaded, from the runs' record of it.
    apart = {"data", "root"} if any(is_run(run) for run in path.parent.iterdir()) else set()
    changed = differing(*({k: v for k, v in each["settings"].items() if k not in apart} for each in (old, record)))
    for axis in ("teachers", "students", "methods"):
        changed += [
            f"{axis} {label} {text!r} there, {record[axis][label]!r} now"
            for label, text in old[axis].items()
            if not is_same_model(record[axis].get(label, text), text)
        ]
    if changed:
        raise InputError(
            f"{path.parent} holds a comparison with other settings ({'; '.join(changed[:3])}); nothing is overwritten: "
            "give another name=, or the same settings to go on with it"
        )
    axes = {axis: {**old[axis], **record[axis]} for axis in ("teachers", "students", "methods")}
    axes["reference"] = record["reference"] or old["reference"]
    return record | axes | {"seeds": sorted({*old["seeds"], *record["seeds"]})}


def _refuse_clashes(
    options: CompareOptions,
    teachers: Mapping[str, str],
    students: Mapping[str, str],
    methods: Iterable[str],
) -> None:
    """Refuse options that contradict the axes."""
    if options.reference is not None and options.reference not in methods:
        raise InputError(f"reference={options.reference}: it is none of the methods {', '.join(methods)}")
    if options.teacher_checkpoint is not None and len(teachers) > 1:
        raise InputError(
            f"teacher_checkpoint={options.teacher_checkpoint}: give one teacher with it, not {len(teachers)}"
        )
    for name, models in (("teacher_pretrained", teachers), ("student_pretrained", students)):
        if getattr(options, name) and all(map(is_run, models.values())):
            raise InputError(f"{name}=true: {', '.join(models.values())} brings its own weights; leave {name} out")


def _weights(options: CompareOptions, student: str, teacher: str | None) -> dict[str, Any]:
    """Where a cell's weights come from; ``teacher`` is None for one that the comparison trains itself."""
    found: dict[str, Any] = {"student_pretrained": options.student_pretrained and not is_run(student)}
    if teacher is not None:
        found |= {"teacher_checkpoint": options.teacher_checkpoint}
        found |= {"teacher_pretrained": options.teacher_pretrained and not is_run(teacher)}
    return found


def _named(cells: Sequence[Cell], trust: Trust) -> list[Cell]:
    """The cells with their names among their settings.

    Raises:
        InputError: two have one name.
    """
    named = [dataclasses.replace(cell, settings=cell.settings | {"name": cell.name}, trust=trust) for cell in cells]
    twice = [cell.name for place, cell in enumerate(named) if cell.name in [other.name for other in named[:place]]]
    if twice:
        raise InputError(f"two runs would have the name {twice[0]}: give teachers, students or methods other labels")
    return named


def _check(options: CompareOptions) -> None:
    for name, least in (("jobs", 1), ("retries", 0), ("teacher_epochs", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise InputError(f"{name}={value}: give at least {least}")


def _check_recipes(cells: Sequence[Cell]) -> None:
    """Check every value of every cell, and that no two do the same."""
    alike: dict[str, Cell] = {}
    for cell in cells:
        other = alike.setdefault(repr(cell.recipe.flat() | {"name": None}), cell)
        if other is not cell:
            raise InputError(f"{other.name} and {cell.name} would do the same; give one of them, or other settings")


def _teacher_cell(options: CompareOptions, text: str, label: str, settings: dict[str, Any]) -> Cell | None:
    """The run that trains a teacher; None for one that is there."""
    as_it_is = options.teacher_checkpoint is not None or options.teacher_pretrained or options.teacher_epochs == 0
    if as_it_is or is_run(text):
        return None
    check_source("teachers", text, None, pretrained=False)
    own = {key: value for key, value in settings.items() if key not in ("bank", "bank_gb")}
    epochs = options.teacher_epochs or settings["epochs"]
    if epochs != settings["epochs"]:
        own.pop("milestones", None)  # they are the students'
    return Cell(own_name(label), "train", own | {"model": text, "epochs": epochs, "seed": 0})
