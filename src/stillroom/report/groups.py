"""From folders to a comparison: runs sorted by teacher, student, method and seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillroom.engine.runs import RunFolder
from stillroom.errors import InputError
from stillroom.recipes import load_published, recipes_folder
from stillroom.report.found import LABELS_ONLY, FoundRun, run_folders, short_name

# What the runs of one pair have in common, or their accuracies could not be compared.
ALIKE = ("classes", "train_pictures", "val_pictures", "picture_shape", "epochs")
WHOLE = {"cifar100": 100, "tiny-imagenet": 200, "imagenet": 1000}  # sets with published accuracies, and their classes


@dataclass(frozen=True)
class Cell:
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
        published: accuracy in percent that a recipe reports, by the method's label; only for whole data sets.
    """

    teacher: str
    student: str
    teacher_run: RunFolder | None
    cells: tuple[Cell, ...]
    published: dict[str, float]

    @property
    def name(self) -> str:
        """As in "resnet56 → resnet20"."""
        return f"{self.teacher} → {self.student}"

    @property
    def methods(self) -> tuple[str, ...]:
        """The labels of the methods, in order."""
        return tuple(dict.fromkeys(cell.method for cell in self.cells))

    def runs(self, method: str) -> tuple[Cell, ...]:
        """The runs of a method, by seed; none for an unknown one."""
        return tuple(sorted((cell for cell in self.cells if cell.method == method), key=lambda cell: cell.seed))


@dataclass(frozen=True)
class Comparison:
    """Pairs whose methods are compared.

    Attributes:
        title: in words.
        pairs: at least one, each with at least one run.
        reference: the label of the method that the others are compared with.
        unfinished: names of run folders that were found and are not finished.
    """

    title: str
    pairs: tuple[Pair, ...]
    reference: str
    unfinished: tuple[str, ...]


def read_comparison(paths: Sequence[Path], reference: str | None = None, title: str | None = None) -> Comparison:
    """Find run folders and sort them.

    Beside runs there may lie a ``comparison.yaml`` with a title, a reference, labels of methods and names of teachers.

    Args:
        paths: run folders, and folders that hold run folders.
        reference: a method's label or text; default what ``comparison.yaml`` says, else kd, else labels only, else
            the first method.
        title: default what ``comparison.yaml`` says, else made from the data set's name.

    Raises:
        InputError: nothing finished is found, runs of one pair differ in classes, pictures or epochs, two runs have
            the same method and seed, or no run has the reference's method.
    """
    found = [FoundRun(run) for run in run_folders(paths)]
    teachers = {run.teacher_run.path.resolve() for run in found if run.teacher_run is not None}
    students = [run for run in found if run.run.path.resolve() not in teachers and not run.is_named_teacher]
    finished = [run for run in students if run.run.finished]
    if not finished:
        places = ", ".join(map(str, paths))
        raise InputError(f"{places}: no student's run is finished there; run its command again to its end, then this")
    pairs = _pairs(finished)
    first = finished[0].description
    return Comparison(
        title=title or first.title or f"Distillation on {finished[0].data_name}",
        pairs=pairs,
        reference=_reference(reference, first.reference, finished, pairs),
        unfinished=tuple(run.run.path.name for run in found if not run.run.finished),
    )


def _pairs(finished: Sequence[FoundRun]) -> tuple[Pair, ...]:
    grouped: dict[tuple[str, str], list[FoundRun]] = defaultdict(list)
    for run in finished:
        if run.config.get("teacher_weights"):
            grouped[run.config["teacher_weights"], run.student].append(run)
    for run in finished:
        if not run.config.get("teacher_weights"):  # trained on labels: stands beside every pair with this student
            homes = [runs for (weights, student), runs in grouped.items() if weights and student == run.student]
            for runs in homes or [grouped["", run.student]]:
                runs.append(run)
    teachers = _distinct({weights: runs[0].teacher_names for (weights, _), runs in grouped.items()})
    students = _distinct({student: runs[0].student_names for (_, student), runs in grouped.items()})
    described = finished[0].description
    pairs = [_pair(teachers[weights], students[student], runs) for (weights, student), runs in grouped.items()]
    pairs.sort(
        key=lambda pair: (_place(pair.teacher, [*described.teachers]), _place(pair.student, [*described.students]))
    )
    return tuple(pairs)


def _place(name: str, listed: Sequence[str]) -> int:
    return listed.index(name) if name in listed else len(listed)


def _distinct(names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """For every key the shortest of its names, all of the same kind, with which no two keys are called the same."""
    kinds = list(zip(*names.values(), strict=True))
    kind = next((i for i, called in enumerate(kinds) if len(set(called)) == len(called)), len(kinds) - 1)
    return {key: called[kind] for key, called in names.items()}


def _pair(teacher: str, student: str, runs: Sequence[FoundRun]) -> Pair:
    _check_alike(runs)
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
        cells=tuple(Cell(run.run, run.method, run.seed) for run in ordered),
        published=_published(runs),
    )


def _check_alike(runs: Sequence[FoundRun]) -> None:
    first, *others = runs
    places: dict[tuple[str, int], Path] = {}
    for run in others:
        told = {name: (first.config.get(name), run.config.get(name)) for name in ALIKE}
        told |= {"data": (first.data_name, run.data_name), "the student's first weights": (first.start, run.start)}
        for name, (there, here) in told.items():
            if there != here:
                raise InputError(
                    f"{first.run.path} and {run.run.path} cannot be compared: {name} differs{_values(there, here)}; "
                    "give runs that share it"
                )
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


def _published(runs: Sequence[FoundRun]) -> dict[str, float]:
    """What recipes report for these methods; only where the runs saw the whole data set at the recipe's size."""
    run = runs[0]
    config = run.config
    parts = config.get("first_classes") or config.get("per_class")
    if parts or len(config["classes"]) != WHOLE.get(run.data_name) or not config.get("teacher"):
        return {}
    reported = {}
    folder = recipes_folder() / run.data_name / f"{run.teacher_model}-{short_name(run.student)}"
    for recipe in map(load_published, sorted(folder.glob("*.yaml"))):
        if recipe.top1 is None or recipe.settings.get("image_size") != config.get("image_size"):
            continue
        for other in runs:
            if other.method_text in (recipe.method, str(recipe.settings["method"]).strip()):
                reported[other.method] = recipe.top1
    return reported
