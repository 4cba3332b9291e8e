"""The file ``comparison.yaml`` in a comparison's folder: title, order, names, and which methods were tuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from stillroom.errors import InputError
from stillroom.files import write_text
from stillroom.reading import read_yaml

NAME = "comparison.yaml"


@dataclass(frozen=True)
class NamedMethod:
    """A method of a comparison: its text and its own settings.

    Attributes:
        text: as for ``stillroom distill --method``.
        settings: those in which its runs differ from the others, such as ``{"lr": 0.01}``.
    """

    text: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> str | dict[str, Any]:
        """The entry in ``comparison.yaml`` that :func:`named_method` reads."""
        return {"method": self.text, **self.settings} if self.settings else self.text

    def is_of(self, config: Mapping[str, Any]) -> bool:
        """Whether a run with these settings is one of its runs."""
        text = str(config.get("method", "ce")).strip()
        return text == self.text and all(config.get(name) == value for name, value in self.settings.items())


def named_method(content: object) -> NamedMethod:
    """Read a method from a YAML file: its text, or a mapping with ``method`` and settings of its own.

    Raises:
        InputError: a mapping without ``method``.
    """
    if not isinstance(content, Mapping):
        return NamedMethod(str(content).strip())
    settings = dict(content)
    text = str(settings.pop("method", "")).strip()
    if not text:
        raise InputError(f"{dict(content)}: say which method it is, as in {{method: kd, lr: 0.01}}")
    return NamedMethod(text, settings)


@dataclass(frozen=True)
class TunedMethod:
    """How the settings of a method were tuned, as ``comparison.yaml`` records it.

    Attributes:
        folder: of the tuning; "." for the comparison's own.
        trials: number of trials.
        epochs: of all its trials together.
        hold_out: fraction of the training images of each class that the trials were judged by.
        other: settings that the trials had otherwise: name -> their value and that of the comparison.
    """

    folder: str
    trials: int
    epochs: int
    hold_out: float
    other: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def content(self) -> dict[str, Any]:
        """The entry in ``comparison.yaml`` that :func:`tuned_method` reads."""
        entry = {name: getattr(self, name) for name in ("folder", "trials", "epochs", "hold_out")}
        return entry | ({"other": {name: list(both) for name, both in self.other.items()}} if self.other else {})


def tuned_method(content: object) -> TunedMethod:
    """Read how a method was tuned.

    Raises:
        InputError: an entry is missing or of the wrong kind.
    """
    entry = content if isinstance(content, Mapping) else {}
    kinds: dict[str, type | tuple[type, ...]] = {"folder": str, "trials": int, "epochs": int, "hold_out": (int, float)}
    wrong = next((name for name, kind in kinds.items() if not isinstance(entry.get(name), kind)), "")
    other = entry.get("other", {})
    if wrong or not (isinstance(other, Mapping) and all(isinstance(v, list) and len(v) == 2 for v in other.values())):
        raise InputError(f"{content!r}: {wrong or 'other'} is missing or of the wrong kind")
    pairs = {str(name): (there, here) for name, (there, here) in other.items()}
    return TunedMethod(entry["folder"], entry["trials"], entry["epochs"], entry["hold_out"], pairs)


@dataclass(frozen=True)
class Description:
    """Title, names and order for the runs in a folder; each may be missing.

    Attributes:
        title: in words.
        reference: the label of the method that the others are compared with.
        methods: each method by its label, in order.
        teachers: the run folder or model of each teacher by its name, in order.
        students: the model of each student by its name, in order.
        tuned: how the settings of each tuned method were tuned, by its label.
    """

    title: str = ""
    reference: str = ""
    methods: Mapping[str, NamedMethod] = field(default_factory=dict)
    teachers: Mapping[str, str] = field(default_factory=dict)
    students: Mapping[str, str] = field(default_factory=dict)
    tuned: Mapping[str, TunedMethod] = field(default_factory=dict)

    def method_label(self, config: Mapping[str, Any]) -> str | None:
        """The label of a run's method, if it has one; of several, the one with most settings."""
        fitting = [label for label, method in self.methods.items() if method.is_of(config)]
        return max(fitting, key=lambda label: len(self.methods[label].settings), default=None)

    def student_label(self, student: str) -> str | None:
        """The name of a student's model, if it has one."""
        return next((label for label, model in self.students.items() if model == student), None)

    def teacher_label(self, teacher: str, place: Path | None, folder: Path) -> str | None:
        """The name of a teacher, if it has one.

        Args:
            teacher: as in a run's settings.
            place: the teacher's run folder, if it has one.
            folder: where the description lies.
        """
        for label, value in self.teachers.items():
            places = (Path(value).resolve(), (folder / value).resolve())
            if value == teacher or (place is not None and place.resolve() in places):
                return label
        return None


def write_description(folder: Path, content: Mapping[str, Any]) -> None:
    """Write a folder's ``comparison.yaml``.

    Args:
        folder: made where it is missing.
        content: the fields of :class:`Description`, and other entries of the writer's own.

    Raises:
        OSError: it cannot be written.
    """
    write_text(folder / NAME, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))


def read_description(folder: Path) -> Description:
    """Read a folder's ``comparison.yaml``; without one, the description is empty.

    Raises:
        InputError: it cannot be read, or a value is of the wrong kind.
    """
    path = folder / NAME
    try:
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return Description()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); allow it") from error


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> Description:  # noqa: ARG001  the time of the last change is part of the key
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} does not describe a comparison: write title, reference, methods as name: value")
    for name in ("title", "reference"):
        if not isinstance(content.get(name, ""), str):
            raise InputError(f"{path}: {name}={content[name]!r} is not text")
    axes: dict[str, Any] = {}
    readers: dict[str, Callable[[object], Any]] = {
        "methods": named_method, "teachers": str, "students": str, "tuned": tuned_method,
    }  # fmt: skip
    for name, read in readers.items():
        named = content.get(name, {})
        if isinstance(named, list) and name == "students":
            named = {str(student).rpartition(":")[2]: student for student in named}
        if not isinstance(named, dict):
            raise InputError(f"{path}: {name}={named!r}: write {name} as label: value, one a line")
        try:
            axes[name] = {str(label): read(value) for label, value in named.items()}
        except InputError as error:
            raise InputError(f"{path}: {name}={error}") from error
    return Description(content.get("title", ""), content.get("reference", ""), **axes)
