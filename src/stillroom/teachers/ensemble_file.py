"""Ensemble file: several teachers and how they are combined, in YAML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from stillroom.errors import InputError, did_you_mean
from stillroom.files import shown
from stillroom.reading import UnreadableError, read_yaml
from stillroom.settings import make_group, setting, settings_in
from stillroom.teachers.teacher_entry import TeacherEntry

Combine = Literal["probabilities", "logits"]


@dataclass(frozen=True, kw_only=True)
class _Combination:
    combine: Combine = setting("what is averaged", "probabilities")
    confidence: bool = setting("weight teachers for each image by the entropy of their predictions", False)


@dataclass(frozen=True)
class EnsembleSpec:
    """Several teachers.

    Attributes:
        combine: what is averaged, probabilities or logits.
        confidence: whether members are weighted for each image (:class:`~stillroom.teachers.ensemble.Ensemble`).
        teachers: one entry for each.
    """

    combine: Combine
    confidence: bool
    teachers: tuple[TeacherEntry, ...]


def read_ensemble(path: str | Path) -> EnsembleSpec:
    """Read several teachers from a YAML file.

    A path in the file (teacher, checkpoint, classes, class_map) is relative to the file's folder if it exists there,
    and to the working directory otherwise.

    Args:
        path: a mapping with "teachers", a list of the settings of :class:`TeacherEntry`, and perhaps "combine" and
            "confidence".

    Raises:
        InputError: the file cannot be read, has an unknown key or no teachers, or a setting is missing, of another type
            or outside its range; it names file, entry and key.
    """
    path = Path(path)
    try:
        found = read_yaml(path)
    except OSError as error:
        raise InputError(f"teacher={shown(path)} cannot be read ({error.strerror or error})") from error
    except UnreadableError as error:
        raise InputError(f"teacher={shown(path)} cannot be read ({error.reason})") from error
    if not isinstance(found, Mapping):
        raise InputError(f"teacher={shown(path)} is no mapping: give teachers, a list, and perhaps combine")
    entries = found.get("teachers")
    where = f"teacher={shown(path)}"
    given = {key: value for key, value in found.items() if key != "teachers"}
    combination = _group(_Combination, given, where, more=("teachers",))
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{where}: teachers is {entries!r}; give a list of entries, each with a teacher")
    teachers = []
    for number, entry in enumerate(entries, 1):
        place = f"{where}, teacher {number}"
        if not isinstance(entry, Mapping):
            raise InputError(f"{place} is {entry!r}; give a mapping such as {{teacher: runs/a, weight: 2}}")
        teachers.append(_found_from(_group(TeacherEntry, entry, place), path.parent))
    return EnsembleSpec(combination.combine, combination.confidence, tuple(teachers))


def _group(group: type[Any], given: Mapping[Any, Any], where: str, more: tuple[str, ...] = ()) -> Any:
    """Settings of a mapping; its errors name the place."""
    known = (*settings_in(group), *more)
    for key in given:
        if key not in known:
            close = did_you_mean(get_close_matches(str(key), known, n=1), f"; give {', '.join(known)}")
            raise InputError(f"{where}: {shown(key)} is no setting{close}")
    try:
        return make_group(group, given)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _found_from(entry: TeacherEntry, folder: Path) -> TeacherEntry:
    """An entry whose paths that exist in a folder start there."""
    paths: dict[str, Any] = {}
    for name in (name for name, one in settings_in(TeacherEntry).items() if one.path):
        value = getattr(entry, name)
        if value is not None and (folder / value).exists():
            paths[name] = str(folder / value)
    return dataclasses.replace(entry, **paths)
