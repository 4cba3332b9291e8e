"""Tune methods: search the best values of each with equal budgets, then compare the winners with fresh seeds."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.compare.carry_out import alone_in, carry_out
from stillroom.compare.cell_checks import check_cells
from stillroom.compare.grid import Cell, Grid, make_grid
from stillroom.compare.labels import is_same_model, short_label
from stillroom.compare.live_board import Board, make_board
from stillroom.compare.options import names_of
from stillroom.compare.plan import Plan
from stillroom.compare.run import Compared, compare
from stillroom.compare.workers import jobs_here, make_staff
from stillroom.data.dataset import DataSet
from stillroom.engine.resume_check import differing
from stillroom.errors import InputError
from stillroom.extras import require
from stillroom.formatting import counted
from stillroom.prepare.known_classes import known_classes
from stillroom.prepare.load_dataset import load_dataset
from stillroom.report.comparison_file import NamedMethod, named_method
from stillroom.report.own_files import PAGE, refuse_foreign
from stillroom.report.tuning_file import read_tuning, write_tuning
from stillroom.report.tuning_record import Budget, Trial, Tuning, trial_folder
from stillroom.run_names import slug
from stillroom.runtime.signals import stop_requests
from stillroom.settings import make_group
from stillroom.trust import Trust, given
from stillroom.tune.rungs import make_budget
from stillroom.tune.search import Search, Searched, trial_cell, trusting
from stillroom.tune.search_space import Space, check_space, make_space, read_spaces
from stillroom.tune.search_teacher import find_search_teacher
from stillroom.tune.tune_options import TuneOptions, compare_options

HOLD_OUT = 0.1  # where none is given


@dataclass(frozen=True)
class Tuned:
    """The result of a tuning.

    Attributes:
        tuning: its record, with the winners.
        failed: failed runs of the search by name, each with its problem in one line; then there is no comparison.
        compared: the final runs; None where the search failed.
    """

    tuning: Tuning
    failed: dict[str, str]
    compared: Compared | None


def tune(
    options: TuneOptions,
    settings: Mapping[str, Any],
    make: Callable[[Plan], Board] = make_board,
    trust: Trust | None = None,
) -> Tuned:
    """Search the best values of every method, write the winners, and train these with fresh seeds on all images.

    What is finished in the folder is not repeated.

    Args:
        options: the pair, the methods, the budget, and how the runs are carried out.
        settings: common to all runs: data, optimizer and run settings; ``hold_out`` is for the trials.
        make: makes the board that shows the progress.
        trust: which models and methods may be imported or fetched; None permits those in ``options``.

    Raises:
        InputError: a setting cannot work, a package is missing, or the folder holds something else.
        Stopped: after Ctrl-C, SIGTERM or SIGHUP; the message says what is saved.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("a tuning starts its own processes: call it without torchrun, with jobs= or ray=")
    require("stillroom tune", "tune")
    require("stillroom tune", "report")
    options = make_group(TuneOptions, vars(options))
    settings = {**settings, "name": settings.get("name") or _usual_name(options, settings)}
    hold_out = settings.pop("hold_out", None) or HOLD_OUT
    trust = given([*names_of(compare_options(options)), settings.get("log_to")]) if trust is None else trust
    search = _prepare(options, settings, hold_out, trust)
    failed = _search(search, options, make)
    found = read_tuning(search.tuning.folder)
    assert found is not None
    if failed:
        return Tuned(found, failed, None)
    winners = {label: winner.method.content for label, winner in found.winners.items()}
    for label, winner in found.winners.items():
        trust = trusting(trust, found.methods[label].text, winner.text)
    final = compare_options(options, methods=winners, tuned=str(found.folder))
    return Tuned(found, {}, compare(final, settings, make, trust))


@dataclass(frozen=True)
class _Prepared:
    """A search that is checked; nothing of it is written yet."""

    tuning: Tuning
    methods: list[Searched]
    teachers: list[Cell]
    notes: list[str]
    count: int


def _usual_name(options: TuneOptions, settings: Mapping[str, Any]) -> str:
    parts = ("tune", short_label(options.student), "from", short_label(options.teacher))
    return "-".join(slug(part) for part in (*parts, Path(str(settings.get("data", ""))).name))


def _prepare(options: TuneOptions, settings: dict[str, Any], hold_out: float, trust: Trust) -> _Prepared:
    """Make the record of a search, and check every run of it before anything is trained or written."""
    there, methods, grid = _joined(options, settings, trust)
    if options.page:
        refuse_foreign(grid.folder / "index.html", PAGE, "name=")
    trained = next((cell for cell in grid.cells if cell.command == "train"), None)
    bases = {cell.method: cell for cell in reversed(grid.cells) if cell.command == "distill"}  # of the first seed
    first = next(iter(bases.values()))
    budget = make_budget(options.trials, first.epochs, options.eta, options.rungs)
    data = _images(first, hold_out, trust)
    teacher = find_search_teacher(options.search_teacher, trained, first, hold_out, data)
    bases = {label: teacher.of_trial(cell) for label, cell in bases.items()}
    spaces = _spaces(options, methods, bases, budget, data, trust)
    searched = [Searched(label, space, bases[label]) for label, space in spaces.items()]
    tuning = Tuning(
        folder=grid.folder,
        teacher=options.teacher,
        student=options.student,
        methods=methods,
        budget=budget,
        spaces={label: {name: r.content for name, r in space.ranges.items()} for label, space in spaces.items()},
        seed=options.search_seed,
        hold_out=hold_out,
        settings=grid.record["settings"],
        trials=there.trials if there else (),
        winners=there.winners if there else {},
        search_teacher=teacher.name,
        held_out_images=len(data.val),
        seen_by_teacher=teacher.seen,
    )
    if there is not None:
        _refuse_other(there, tuning)
    count = min(len(methods) * budget.trials, options.jobs or jobs_here())
    todo = [cell for cell in (teacher.cell, trained) if cell is not None and not cell.run.complete]
    todo = list({cell.name: cell for cell in todo}.values())
    notes = [] if _is_complete(tuning) else _check(grid, tuning, searched, todo, count, options)
    return _Prepared(tuning, searched, todo, notes, count)


def _joined(
    options: TuneOptions, settings: dict[str, Any], trust: Trust
) -> tuple[Tuning | None, dict[str, NamedMethod], Grid]:
    """The record of an earlier call on the same folder, the methods of both calls, and the grid of their final runs.

    Raises:
        InputError: the folder holds something else.
    """
    grid = make_grid(compare_options(options), settings, trust)
    there = read_tuning(grid.folder)
    methods = {label: named_method(content) for label, content in grid.record["methods"].items()}
    if there is None:
        if grid.folder.exists() and any(not one.name.startswith(".") for one in grid.folder.iterdir()):
            raise InputError(
                f"{grid.folder} holds other files and no tuning; nothing is overwritten, give another name="
            )
        return None, methods, grid
    if there.methods.keys() - methods.keys():
        methods = {**there.methods, **methods}
        kept = compare_options(options, methods={label: method.content for label, method in methods.items()})
        grid = make_grid(kept, settings, trust)
    return there, methods, grid


def _images(base: Cell, hold_out: float, trust: Trust) -> DataSet:
    """The images of the trials, with the held-out ones in the place of the validation images."""
    options = dataclasses.replace(base.recipe.data, hold_out=hold_out)
    return load_dataset(options, classes=known_classes(base.recipe, trust))


def _spaces(
    options: TuneOptions,
    methods: Mapping[str, NamedMethod],
    bases: Mapping[str, Cell],
    budget: Budget,
    data: DataSet,
    trust: Trust,
) -> dict[str, Space]:
    """The checked space of each method by label."""
    entries = read_spaces(None if options.space is None else Path(options.space))
    classes = len(data.train.classes)
    columns = classes + (data.task == "detection")  # a detector has one more, for the background
    spaces = {}
    for label, method in methods.items():
        base = bases[label]
        spaces[label] = make_space(method, base.recipe, base.settings, entries, classes)
        check_space(spaces[label], label, (*budget.rungs, base.epochs), columns, trust)
    return spaces


def _refuse_other(there: Tuning, now: Tuning) -> None:
    """Refuse to continue a tuning with other settings.

    Raises:
        InputError: naming what differs.
    """
    pairs: dict[str, tuple[Any, Any]] = {
        "trials": (there.budget.trials, now.budget.trials),
        "rungs": (there.budget.words, now.budget.words),
        "search_seed": (there.seed, now.seed),
        "hold_out": (there.hold_out, now.hold_out),
    }
    pairs |= {f"method {label}": (one.content, now.methods[label].content) for label, one in there.methods.items()}
    pairs |= {f"space of {label}": (one, now.spaces[label]) for label, one in there.spaces.items()}
    changed = [f"{name} {one!r} there, {other!r} now" for name, (one, other) in pairs.items() if one != other]
    for name in ("teacher", "student", "search_teacher"):
        one, other = getattr(there, name), getattr(now, name)
        if not is_same_model(other, one):
            changed.append(f"{name} {one!r} there, {other!r} now")
    changed += differing(there.settings, now.settings)
    if changed:
        raise InputError(
            f"{now.folder} contains a tuning with other settings ({'; '.join(changed[:3])}); nothing is overwritten: "
            "give another name=, or the same settings to continue it"
        )


def _is_complete(tuning: Tuning) -> bool:
    return tuning.winners.keys() == tuning.methods.keys()


def _check(
    grid: Grid, tuning: Tuning, methods: list[Searched], teachers: list[Cell], count: int, options: TuneOptions
) -> list[str]:
    """Build every method and the teacher of the trials on the images of the trials, another teacher on all images."""
    copies = count if options.ray in (None, "local") else 1
    folder = trial_folder(tuning.folder, "", 0, 0).parent
    of_trials = [cell for cell in teachers if cell.run.path.parent == folder]
    others = [cell for cell in teachers if cell not in of_trials]
    notes = check_cells(dataclasses.replace(grid, cells=tuple(others)), others, copies) if others else []
    firsts = [
        trial_cell(one, Trial(one.label, 0, one.space.defaults), epochs, tuning)
        for one in methods
        for epochs in tuning.budget.rungs
    ]
    notes += check_cells(Grid(folder, (*teachers, *firsts), grid.record), [*of_trials, *firsts], copies)
    notes += [f"note: {caution.reason} {caution.remedy}" for caution in tuning.cautions]
    return list(dict.fromkeys(notes))


def _search(prepared: _Prepared, options: TuneOptions, make: Callable[[Plan], Board]) -> dict[str, str]:
    """Carry out the runs of a search and write its winners.

    Returns:
        Failed runs by name, each with its problem in one line.
    """
    tuning = prepared.tuning
    with alone_in(tuning.folder), stop_requests() as stop:
        there = read_tuning(tuning.folder)  # another process may have written it since
        if there is not None:
            _refuse_other(there, tuning)
            tuning = dataclasses.replace(tuning, trials=there.trials, winners=there.winners)
        if _is_complete(tuning):
            return {}
        staff = make_staff(options.ray, prepared.count)  # before anything is written, for this may fail
        write_tuning(tuning)
        plan = Search(tuning, prepared.methods, prepared.teachers)
        board = make(plan)
        board.say(f"{tuning.folder.name}: {counted(plan.run_count, 'run')} of the search; {staff.words}")
        for note in prepared.notes:
            board.say(note)
        failed = carry_out(plan, staff, stop, board, options.retries)
        winners = plan.winners()
        if not failed:
            assert winners.keys() == tuning.methods.keys()
            write_tuning(dataclasses.replace(tuning, winners=winners))
    return failed
