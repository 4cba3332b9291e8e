"""Aggregating runs: folders become pairs of teacher and student, with runs by method and seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.report.comparison_file import TunedMethod
from stillroom.report.discovery import LABELS_ONLY, FoundRun, distinct_names, run_folders, teachers_of, tunings_of
from stillroom.report.published import published_accuracies
from stillroom.report.tuning_record import Tuning
from stillroom.report.usable_runs import LeftOut, last_score, unusable_reason
from stillroom.scores import Score, score_of, task_of
from stillroom.trust import NOTHING, Trust

# Settings that have to be equal for scores to be comparable.
ALIKE = ("classes", "train_images", "val_images", "image_shape", "epochs")


@dataclass(frozen=True)
class PlacedRun:
    """One finished run and its place in a comparison.

    Attributes:
        run: the run.
        method: the label of its method.
        seed: of the run.
    """

    run: RunFolder
    method: str
    seed: int


@dataclass(frozen=True)
class Pair:
    """All finished runs of one teacher with one student.

    Attributes:
        teacher: short name, as in "resnet56"; "no teacher" for runs on labels beside which there is none.
        student: short name, as in "resnet20".
        teacher_run: the teacher's own run, if it has one that is finished.
        cells: the runs.
        published: main score in percent that a recipe reports for just such runs, by the method's label.
        left_out: finished runs that take part in no number.
        tuned: how the settings of each tuned method were tuned, by its label.
    """

    teacher: str
    student: str
    teacher_run: RunFolder | None
    cells: tuple[PlacedRun, ...]
    published: dict[str, float]
    left_out: tuple[LeftOut, ...] = ()
    tuned: Mapping[str, TunedMethod] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As in "resnet56 → resnet20"."""
        return f"{self.teacher} → {self.student}"

    @cached_property
    def score(self) -> Score:
        """What its runs are compared by."""
        return score_of(self.cells[0].run.config())

    @property
    def methods(self) -> tuple[str, ...]:
        """The labels of the methods, in order."""
        return tuple(dict.fromkeys(cell.method for cell in self.cells))

    def is_untuned(self, method: str) -> bool:
        """Whether a method was not tuned, though others of the pair were."""
        return bool(self.tuned) and method not in self.tuned

    def runs(self, method: str) -> tuple[PlacedRun, ...]:
        """The runs of a method, by seed; none for an unknown one."""
        return tuple(sorted((cell for cell in self.cells if cell.method == method), key=lambda cell: cell.seed))


@dataclass(frozen=True)
class Comparison:
    """Pairs whose methods are compared.

    Attributes:
        title: in words.
        pairs: each with at least one run; none only where there is a tuning.
        reference: the label of the method that the others are compared with; empty without a pair.
        unfinished: names of run folders that were found and are not finished.
        left_out: finished runs that belong to none of the pairs, or cannot be read.
        tunings: those in the folders, and those that tuned the methods, as far as they are still there.
    """

    title: str
    pairs: tuple[Pair, ...]
    reference: str
    unfinished: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    tunings: tuple[Tuning, ...] = ()


def read_comparison(
    paths: Sequence[Path], reference: str | None = None, title: str | None = None, trust: Trust = NOTHING
) -> Comparison:
    """Find run folders and sort them. Runs of another task than most of them have are left out.

    Beside runs there may lie a ``comparison.yaml`` with a title, a reference, labels of methods and names of teachers.

    Args:
        paths: run folders, and folders that hold run folders.
        reference: a method's label or text; default what ``comparison.yaml`` says, else kd, else labels only, else
            the first method.
        title: default what ``comparison.yaml`` says, else made from the data set's name.
        trust: what is permitted for the models and methods that the runs name; by default nothing is imported.

    Raises:
        InputError: neither a finished run nor a tuning is found, two runs have the same method and seed, or no run has
            the reference's method.
    """
    tunings = tunings_of(paths)
    found, left_out = _readable(run_folders(paths, trust, empty=bool(tunings)))
    teachers = teachers_of(found, tunings)
    students = [run for run in found if run.run.path.resolve() not in teachers]
    finished, of_others = _one_task([run for run in students if run.run.finished])
    pairs, rest = _pairs(finished)
    left_out += of_others + rest
    unfinished = tuple(run.run.path.name for run in found if not run.run.finished)
    if not pairs and tunings:  # the search has not ended, or the final runs have not
        title = title or f"Tuning {tunings[0].folder.resolve().name}"
        return Comparison(title, (), "", unfinished, tuple(left_out), tunings)
    if not pairs:
        places = ", ".join(map(str, paths))
        if left_out:
            raise InputError(f"{places}: no run is left to report; {left_out[0].sentence}")
        raise InputError(f"{places}: no student's run is finished there; run its command again to its end, then this")
    first = finished[0].description
    return Comparison(
        title=title or first.title or f"Distillation on {finished[0].data_name}",
        pairs=pairs,
        reference=_reference(reference, first.reference, finished, pairs),
        unfinished=unfinished,
        left_out=tuple(left_out),
        tunings=tunings,
    )


def _readable(folders: Sequence[RunFolder]) -> tuple[list[FoundRun], list[LeftOut]]:
    """Runs whose settings can be read, and the others."""
    found, left_out = [], []
    for folder in folders:
        run = FoundRun(folder)
        try:
            task_of(run.config)  # read here, once
        except InputError as error:
            left_out.append(LeftOut(folder.path.name, str(error)))
        else:
            found.append(run)
    return found, left_out


def _one_task(finished: Sequence[FoundRun]) -> tuple[list[FoundRun], list[LeftOut]]:
    """The runs of the task that most of them have, and the others: two tasks have no score in common."""
    by_task: dict[str, list[FoundRun]] = defaultdict(list)
    for run in finished:
        by_task[task_of(run.config)].append(run)
    most = max(by_task, key=lambda task: len(by_task[task]), default="")
    left_out = [
        _left_out(run, f"it is a run of {task}, and most are of {most}; report it in a page of its own")
        for task, runs in by_task.items()
        if task != most
        for run in runs
    ]
    return by_task[most], left_out


def _pairs(finished: Sequence[FoundRun]) -> tuple[tuple[Pair, ...], list[LeftOut]]:
    """The pairs that have a run whose numbers can be used, and the runs that belong to none."""
    grouped: dict[tuple[str, str], list[FoundRun]] = defaultdict(list)
    for run in finished:
        if run.config.get("teacher_weights"):
            grouped[run.config["teacher_weights"], run.student].append(run)
    for run in finished:
        if not run.config.get("teacher_weights"):  # trained on labels: stands beside every pair with this student
            homes = [runs for (weights, student), runs in grouped.items() if weights and student == run.student]
            for runs in homes or [grouped["", run.student]]:
                runs.append(run)
    sound = {key: _sound(runs) for key, runs in grouped.items()}
    rest = [one for runs, left_out in sound.values() if not runs for one in left_out]
    sound = {key: value for key, value in sound.items() if value[0]}
    if not sound:
        return (), rest
    teachers = distinct_names({weights: runs[0].teacher_names for (weights, _), (runs, _) in sound.items()})
    students = distinct_names({student: runs[0].student_names for (_, student), (runs, _) in sound.items()})
    described = finished[0].description
    pairs = [
        _pair(teachers[weights], students[student], runs, left_out)
        for (weights, student), (runs, left_out) in sound.items()
    ]
    pairs.sort(
        key=lambda pair: (_place(pair.teacher, [*described.teachers]), _place(pair.student, [*described.students]))
    )
    return tuple(pairs), rest


def _sound(runs: Sequence[FoundRun]) -> tuple[list[FoundRun], list[LeftOut]]:
    """The runs whose numbers can be used and compared with each other, and the others."""
    kept: list[FoundRun] = []
    left_out = []
    for run in runs:
        why = unusable_reason(run.run)
        if why:
            left_out.append(_left_out(run, why))
        else:
            kept.append(run)
    alike: list[list[FoundRun]] = []
    for run in kept:
        home = next((group for group in alike if not _differs(group[0], run)), None)
        if home is None:
            alike.append([run])
        else:
            home.append(run)
    most = max(alike, key=len, default=[])
    for group in alike:
        if group is not most:
            why = f"it cannot be compared with {most[0].run.path.name}: {_differs(most[0], group[0])}"
            left_out += [_left_out(run, why) for run in group]
    return most, left_out


def _left_out(run: FoundRun, why: str) -> LeftOut:
    score = None if "diverged" in why else last_score(run.run)
    return LeftOut(run.run.path.name, why, run.method, run.seed, score)


def _place(name: str, listed: Sequence[str]) -> int:
    return listed.index(name) if name in listed else len(listed)


def _pair(teacher: str, student: str, runs: Sequence[FoundRun], left_out: Sequence[LeftOut]) -> Pair:
    _refuse_doubles(runs)
    labels = list(dict.fromkeys(run.method for run in runs))
    listed = list(runs[0].description.methods)
    # Listed methods as listed, then labels only, then the others as they were found.
    labels.sort(key=lambda label: (_place(label, listed), label != LABELS_ONLY))
    ordered = sorted(runs, key=lambda run: (labels.index(run.method), run.seed))
    teacher_run = next((run.teacher_run for run in runs if run.teacher_run is not None), None)
    return Pair(
        teacher=teacher,
        student=student,
        teacher_run=teacher_run if teacher_run is not None and teacher_run.finished else None,
        cells=tuple(PlacedRun(run.run, run.method, run.seed) for run in ordered),
        published=published_accuracies(runs),
        left_out=tuple(left_out),
        tuned={run.method: run.description.tuned[run.method] for run in runs if run.method in run.description.tuned},
    )


def _differs(one: FoundRun, other: FoundRun) -> str:
    """Why the scores of two runs cannot be compared; empty where they can."""
    told = {name: (one.config.get(name), other.config.get(name)) for name in ALIKE}
    told |= {"data": (one.contents, other.contents), "the student's first weights": (one.start, other.start)}
    if one.contents is None or other.contents is None:
        told["data"] = (one.data_name, other.data_name)
    return next((f"{name} differs{_values(*both)}" for name, both in told.items() if both[0] != both[1]), "")


def _refuse_doubles(runs: Sequence[FoundRun]) -> None:
    places: dict[tuple[str, int], Path] = {}
    for run in runs:
        other = places.setdefault((run.method, run.seed), run.run.path)
        if other != run.run.path:
            raise InputError(
                f"{other} and {run.run.path} are the same method ({run.method}) with the same seed ({run.seed}); "
                "give one of them"
            )


def _values(there: object, here: object) -> str:
    text = f" ({there} and {here})"
    return text if len(text) < 100 else ""


def _reference(asked: str | None, described: str, runs: Sequence[FoundRun], pairs: Iterable[Pair]) -> str:
    """The label of the method that the others are compared with."""
    labels = list(dict.fromkeys(label for pair in pairs for label in pair.methods))
    by_text = {run.method_text: run.method for run in runs}
    for wanted in (asked, described, "kd", LABELS_ONLY, "ce"):
        if wanted in labels:
            return str(wanted)
        if wanted in by_text:
            return by_text[str(wanted)]
        if asked is not None:
            raise InputError(f"reference={asked}: no finished run has this method; there are {', '.join(labels)}")
    return labels[0]
