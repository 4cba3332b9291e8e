"""The grid of a comparison: one cell per run, with its name, its settings and the teacher that it waits for."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stillroom.compare.labels import as_given, own_name, short_labels
from stillroom.compare.options import CompareOptions, methods_of, models_of, seeds_of
from stillroom.compare.tuned import SHARED, tuned_entries
from stillroom.config import MAY_CHANGE, VIEW, Recipe, RemoteOptions, RunOptions, TeacherOptions, make_recipe
from stillroom.data.load_data import what_is_learned
from stillroom.defaults import usual_milestones
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.methods import parse_method
from stillroom.prepare.load_dataset import with_image_size
from stillroom.prepare.name_checks import check_source
from stillroom.recipes import with_recipe
from stillroom.report.comparison_file import NamedMethod, read_description
from stillroom.resolve_model import is_run
from stillroom.run_names import PORTABLE, PORTABLE_WORDS, slug
from stillroom.settings import make_group, settings_in
from stillroom.teachers.teacher_kind import teacher_kind
from stillroom.trust import NOTHING, Trust


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Attributes:
        name: of its run folder.
        command: train for a teacher, distill for a student.
        settings: for :func:`stillroom.config.make_recipe`.
        waits_for: name of the cell that trains the teacher; empty where the teacher exists already.
        fills: key of the part of the teacher bank that this run fills or reads; empty where it uses none.
        student: the student's name.
        method: the method's label.
        trust: which models and methods may be imported or fetched.
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

    @property
    def run(self) -> RunFolder:
        """The run folder."""
        return RunFolder(Path(self.settings["runs"]) / self.name, self.trust)


@dataclass(frozen=True)
class Grid:
    """All runs of a comparison.

    Attributes:
        folder: contains one run folder per cell, the teacher bank and the page.
        cells: teachers first, then students seed by seed, so that an unfinished comparison is balanced.
        record: the content of ``comparison.yaml``: labels, axes, settings.
    """

    folder: Path
    cells: tuple[Cell, ...]
    record: dict[str, Any] = field(repr=False)

    # As in stillroom.compare.plan.Plan: all runs are known from the start, and one that diverges has failed.

    @property
    def run_count(self) -> int:
        """Number of runs."""
        return len(self.cells)

    @property
    def epoch_count(self) -> int:
        """Number of epochs of all runs."""
        return sum(cell.epochs for cell in self.cells)

    def more(self) -> tuple[Cell, ...]:
        """Return no cells."""
        return ()

    def takes_divergence(self, cell: Cell, problem: str) -> bool:  # noqa: ARG002
        """Return False: a run that diverges has failed."""
        return False

    def has_diverged(self, cell: Cell) -> bool:  # noqa: ARG002
        """Return False: see :meth:`takes_divergence`."""
        return False


def make_grid(options: CompareOptions, settings: dict[str, Any], trust: Trust = NOTHING) -> Grid:
    """Make the cells of a comparison and check all settings of each.

    Args:
        options: the axes.
        settings: common to all runs: data, optimizer and run settings.
        trust: which models and methods may be imported or fetched; by default none.

    Raises:
        InputError: naming the setting that cannot work, its value and the fix.
    """
    options = make_group(CompareOptions, vars(options))
    teachers, students = models_of(options, "teachers"), models_of(options, "students")
    methods = methods_of(options)
    _refuse_clashes(options, teachers, students, methods)
    settings = {"epochs": RunOptions.epochs, **with_recipe(settings, SHARED)}
    if settings.get("data"):  # the record says what its scores are
        settings["task"] = what_is_learned(str(settings["data"]), settings.get("task") or "auto")
    folder = _folder(settings, teachers)
    there = read_description(folder)
    teachers = short_labels(teachers, as_given(folder, there.teachers, teachers))
    students = short_labels(students, there.students)
    models = {"teachers": teachers, "students": students}
    settings |= {"runs": str(folder), "bank": settings.get("bank") or str(folder / "bank")}
    trained = {label: _teacher_cell(options, text, label, settings) for label, text in teachers.items()}
    cells = [cell for cell in trained.values() if cell is not None]
    cells += _student_cells(options, settings, folder, (teachers, students, methods), trained, trust)
    record = {
        "reference": options.reference or "",
        "teachers": {label: teachers[label] if own is None else own.name for label, own in trained.items()},
        "students": students,
        "methods": {label: method.content for label, method in methods.items()},
        "tuned": {
            label: entry.content for label, entry in tuned_entries(options, folder, methods, settings, models).items()
        },
        "seeds": seeds_of(options),
        "settings": {k: v for k, v in settings.items() if k not in MAY_CHANGE and v is not None}
        | {"teacher_epochs": options.teacher_epochs},
    }
    cells = _named(cells, trust)
    _check_recipes(cells)
    return Grid(folder, tuple(cells), record)


def _folder(settings: dict[str, Any], teachers: dict[str, str]) -> Path:
    """Take name and folder out of the settings of a comparison.

    Raises:
        InputError: the name is not portable.
    """
    name = settings.pop("name", None) or "-".join(
        slug(part) for part in ("compare", *short_labels(teachers, {}), Path(str(settings.get("data", ""))).name)
    )
    if not PORTABLE.fullmatch(name):
        raise InputError(f"name={name}: give {PORTABLE_WORDS}")
    return Path(settings.pop("runs", None) or RunOptions.runs) / name


def _student_cells(
    options: CompareOptions,
    settings: dict[str, Any],
    folder: Path,
    axes: tuple[dict[str, str], dict[str, str], dict[str, NamedMethod]],
    trained: Mapping[str, Cell | None],
    trust: Trust,
) -> Iterator[Cell]:
    """One cell per seed, teacher, student and method, seed by seed."""
    teachers, students, methods = axes
    parsed = {label: parse_method(method.text, trust.of(method.text)) for label, method in methods.items()}
    for seed, (teacher, given), (student, model), (label, method) in itertools.product(
        seeds_of(options), teachers.items(), students.items(), methods.items()
    ):
        own, kind = trained[teacher], parsed[label]
        place = given if own is None else str(folder / own.name)
        chosen = {"teacher": place, "student": model, "seed": seed, "method": method.text, **method.settings}
        chosen |= _weights(options, model, given if own is None else None)
        view = tuple(sorted((name, repr(value)) for name, value in method.settings.items() if name in VIEW))
        yield Cell(
            name="-".join(slug(part) for part in (student, "from", teacher, label, f"s{seed}")),
            command="distill",
            settings=settings | chosen,
            waits_for="" if own is None else own.name,
            fills=(teacher, seed, kind.needs_strong, *view) if kind.needs_teacher and kind.bankable else (),
            student=student,
            method=label,
        )


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
    """The settings for a cell's weights; ``teacher`` is None where the comparison trains it."""
    found: dict[str, Any] = {"student_pretrained": options.student_pretrained and not is_run(student)}
    if teacher is not None:
        found |= {"teacher_checkpoint": options.teacher_checkpoint}
        found |= {"teacher_pretrained": options.teacher_pretrained and not is_run(teacher)}
    return found


def _named(cells: Sequence[Cell], trust: Trust) -> list[Cell]:
    """Add its name to the settings of each cell.

    Raises:
        InputError: two cells have the same name.
    """
    named = [dataclasses.replace(cell, settings=cell.settings | {"name": cell.name}, trust=trust) for cell in cells]
    twice = [cell.name for place, cell in enumerate(named) if cell.name in [other.name for other in named[:place]]]
    if twice:
        raise InputError(f"two runs would have the name {twice[0]}: give teachers, students or methods other labels")
    return named


def _check_recipes(cells: Sequence[Cell]) -> None:
    """Check all settings of all cells, and that no two cells are the same run."""
    alike: dict[str, Cell] = {}
    for cell in cells:
        other = alike.setdefault(repr(cell.recipe.flat() | {"name": None}), cell)
        if other is not cell:
            raise InputError(f"{other.name} and {cell.name} are the same run; give one of them, or other settings")


def is_trained(options: CompareOptions, text: str) -> bool:
    """Whether a comparison trains a teacher; otherwise it takes the teacher as it is.

    Args:
        options: of the comparison.
        text: the teacher.
    """
    as_it_is = options.teacher_checkpoint is not None or options.teacher_pretrained or options.teacher_epochs == 0
    return not (as_it_is or is_run(text) or teacher_kind(text) != "network")


def _teacher_cell(options: CompareOptions, text: str, label: str, settings: dict[str, Any]) -> Cell | None:
    """The cell that trains a teacher; None where the teacher exists already."""
    if not is_trained(options, text):
        return None
    check_source("teachers", text, None, pretrained=False)
    unused = {"bank", "bank_gb", "bank_bits", "repeat_views", *settings_in(TeacherOptions, RemoteOptions)}
    own = {key: value for key, value in settings.items() if key not in unused}
    epochs = options.teacher_epochs or settings["epochs"]
    if epochs != settings["epochs"] and own.get("milestones") is not None:
        own["milestones"] = list(usual_milestones(epochs))  # those given, or of the recipe, are for the students
    return Cell(own_name(label), "train", own | {"model": text, "epochs": epochs, "seed": 0})
