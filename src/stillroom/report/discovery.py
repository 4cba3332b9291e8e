"""Finding run folders and tunings, and the place of each run in a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stillroom.engine.resume_check import contents_of
from stillroom.engine.run_folder import RunFolder, trained_model
from stillroom.errors import InputError
from stillroom.report.comparison_file import Description, read_description
from stillroom.report.tuning_file import read_tuning
from stillroom.report.tuning_record import Tuning
from stillroom.resolve_model import is_run
from stillroom.restore import teacher_run_of
from stillroom.suggestions import suggest_path
from stillroom.trust import Trust

LABELS_ONLY = "labels only"  # the label of the method "ce"
NO_TEACHER = "no teacher"


def run_folders(paths: Sequence[Path], trust: Trust, *, empty: bool = False) -> list[RunFolder]:
    """Every run folder among the paths and directly inside them, once each.

    Args:
        paths: folders.
        trust: what is permitted for the names in their files.
        empty: whether a path may hold no run folder.

    Raises:
        InputError: a path is no folder, or there is no run folder in it though there must be.
    """
    folders: dict[Path, RunFolder] = {}
    for path in map(Path, paths):
        if path.is_file():
            raise InputError(f"{path} is a file; give run folders, or folders that hold them")
        if not path.is_dir():
            raise InputError(f"{path}: there is no such folder{suggest_path(path, _holds_runs)}")
        inside = [path] if is_run(path) else sorted(child for child in path.iterdir() if is_run(child))
        if not inside and not empty:
            raise InputError(f"{path} holds no run folders; give the folder of a run or of a comparison")
        for folder in inside:
            folders.setdefault(folder.resolve(), RunFolder(folder, trust))
    return list(folders.values())


def tunings_of(paths: Sequence[Path]) -> tuple[Tuning, ...]:
    """The tunings in folders, and those that tuned methods there according to ``comparison.yaml``, once each.

    Args:
        paths: folders; those of single runs hold none.

    Raises:
        InputError: as for :func:`read_tuning`, and where a ``comparison.yaml`` cannot be read.
    """
    found: dict[Path, Tuning] = {}
    for path in filter(Path.is_dir, map(Path, paths)):
        named = (one.folder for one in read_description(path).tuned.values())
        for folder in dict.fromkeys([path, *(place for name in named for place in (Path(name), path / name))]):
            if folder.resolve() not in found and (tuning := read_tuning(folder)) is not None:
                found[folder.resolve()] = tuning
    return tuple(found.values())


def teachers_of(runs: Sequence[FoundRun], tunings: Sequence[Tuning]) -> set[Path]:
    """The folders of the runs that taught other runs, or are named as teachers of a comparison or a tuning."""
    found = {run.teacher_run.path.resolve() for run in runs if run.teacher_run is not None}
    found |= {run.run.path.resolve() for run in runs if run.is_named_teacher}
    for tuning in tunings:
        found |= {Path(tuning.teacher).resolve(), (tuning.folder / tuning.teacher).resolve()}
        beside = [run for run in runs if run.run.path.parent.resolve() == tuning.folder.resolve()]
        found |= {run.run.path.resolve() for run in beside if run.config.get("model") == tuning.teacher}
    return found


def _holds_runs(path: Path) -> bool:
    return path.is_dir() and (is_run(path) or any(map(is_run, path.iterdir())))


@dataclass(frozen=True)
class FoundRun:
    """A run folder, with what decides its place in a comparison.

    Attributes:
        run: the folder.
    """

    run: RunFolder

    @cached_property
    def config(self) -> dict[str, Any]:
        """The run's settings and what it was fed with."""
        return self.run.config()

    @cached_property
    def description(self) -> Description:
        """The ``comparison.yaml`` beside it."""
        return read_description(self.run.path.parent)

    @cached_property
    def teacher_run(self) -> RunFolder | None:
        """Its teacher's run folder, if that is where the teacher came from and it can still be read."""
        found = teacher_run_of(self.run)
        with suppress(InputError):
            if found is not None and found.config():
                return found
        return None

    @property
    def is_named_teacher(self) -> bool:
        """Whether the description lists it as a teacher, though no student of it has begun."""
        named = (Path(place) for place in self.description.teachers.values())
        folder, here = self.run.path.resolve(), self.run.path.parent
        return any(folder in (place.resolve(), (here / place).resolve()) for place in named)

    @property
    def method_text(self) -> str:
        """The method as it was given, "ce" for a training run."""
        return str(self.config.get("method", "ce")).strip()

    @property
    def method(self) -> str:
        """The label of the method."""
        text = self.method_text
        return self.description.method_label(self.config) or (LABELS_ONLY if text == "ce" else text)

    @property
    def student(self) -> str:
        """The trained model as it was given."""
        return trained_model(self.config)

    @property
    def seed(self) -> int:
        """Of initial weights, order and augmentation."""
        return int(self.config["seed"])

    @property
    def data_name(self) -> str:
        """Last part of the data set's name or path."""
        return Path(self.config["data"]).name

    @property
    def contents(self) -> dict[str, str] | None:
        """Fingerprints of its validation images and their labels; None where it did not record them."""
        known = contents_of(self.config)
        return None if known is None else {name: value for name, value in known.items() if "validation" in name}

    @property
    def teacher_model(self) -> str:
        """Short name of the teacher's model, whether it came by name or from a run."""
        if self.teacher_run is None:
            return short_name(str(self.config.get("teacher") or NO_TEACHER))
        return short_name(trained_model(self.teacher_run.config()))

    @property
    def teacher_names(self) -> tuple[str, ...]:
        """Names for the teacher, from short to distinct."""
        given = str(self.config.get("teacher") or "")
        place = None if self.teacher_run is None else self.teacher_run.path
        own = self.description.teacher_label(given, place, self.run.path.parent)
        short = own or self.teacher_model
        return (short, f"{short} ({Path(given).name})", f"{short} ({self.config.get('teacher_weights')})")

    @property
    def student_names(self) -> tuple[str, ...]:
        """Names for the student, from short to distinct."""
        return (self.description.student_label(self.student) or short_name(self.student), self.student)

    @property
    def start(self) -> tuple[object, object]:
        """Where the student's initial weights came from: a checkpoint, and whether they are published ones."""
        prefix = "" if "model" in self.config else "student_"
        return self.config.get(f"{prefix}checkpoint"), bool(self.config.get(f"{prefix}pretrained"))


def distinct_names(names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """For every key the shortest of its names, all of the same kind, with which no two keys are called the same."""
    kinds = list(zip(*names.values(), strict=True))
    kind = next((i for i, called in enumerate(kinds) if len(set(called)) == len(called)), len(kinds) - 1)
    return {key: called[kind] for key, called in names.items()}


def short_name(model: str) -> str:
    """The last part of a model's name: "timm:resnet18" is resnet18, "runs/a" is a."""
    return Path(model.rpartition(":")[2]).name
