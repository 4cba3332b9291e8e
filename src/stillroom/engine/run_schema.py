"""The schema of a run folder's files: which values each may hold.

A folder from elsewhere may hold anything. Every value is checked once, where its file is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from stillroom.config import COMMON, GROUPS
from stillroom.errors import InputError
from stillroom.files import shown
from stillroom.reading import UnreadableError
from stillroom.scores import SCORES
from stillroom.settings import as_kind

LARGEST = 2**63  # no count of ours reaches it, and larger whole numbers are no floats
MOST = 1e12  # seconds, or images a second
SHOWN = 60

Check = Callable[[Any], bool]


class Record(dict[str, Any]):
    """The names and values of a file; a missing name is an error that names the file.

    Attributes:
        path: the file.
    """

    path: Path = Path()

    def __missing__(self, name: str) -> Any:
        """Name what is missing.

        Raises:
            InputError: always.
        """
        raise UnreadableError(self.path, f"it has no {name}")


def _number(value: Any) -> bool:
    """A number, which is not finite in a run that diverged."""
    return isinstance(value, float) or _count(value) or (isinstance(value, int) and -LARGEST < value < 0)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def _amount(value: Any) -> bool:
    """Seconds, or images a second, which must be finite to be written as a time."""
    return _number(value) and 0 <= value < MOST


def _percent(value: Any) -> bool:
    return _number(value) and (not math.isfinite(value) or 0 <= value <= 100 + 1e-6)


def _size(value: Any) -> bool:
    return _count(value) and value > 0


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _classes(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str | int) for name in value)


def _shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_size, value))


def _mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _numbers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_number, value.values()))


def _row(value: Any) -> bool:
    return isinstance(value, Mapping) and not _wrong(value, ROW, _or_none(_number))


ROW: dict[str, Check] = {
    "epoch": _size, "terms": _or_none(_numbers), "seconds": _amount, "images_per_second": _amount,
    "bank_seconds": _amount, "agreement": _or_none(_percent),
    "average_top1": _percent, "stop_top1": _percent, "stop_agreement": _percent,
    **{one.column: _or_none(_percent) for score in SCORES.values() for one in score.all},
}  # fmt: skip
TEACHER: dict[str, Check] = {
    **{one.key: _or_none(_percent) for score in SCORES.values() for one in score.all},
    "top1": _percent, "top5": _percent, "loss": _number, "count": _count,
}  # fmt: skip
EARLY_STOP: dict[str, Check] = {
    "stopped": lambda value: isinstance(value, bool), "epoch": _size, "best_epoch": _size, "images": _size,
}  # fmt: skip
SUMMARY: dict[str, Check] = {
    "parameters": _count, "teacher_parameters": _or_none(_count), "macs": _or_none(_count),
    "teacher_macs": _or_none(_count), "last": _row, "best": _row,
    "teacher": _or_none(lambda value: _mapping(value) and not _wrong(value, TEACHER)),
    "early_stop": lambda value: _mapping(value) and not _wrong(value, EARLY_STOP),
    "exported": lambda value: value in ("last", "best"), "seconds": _amount, "bank_seconds": _amount,
    "peak_memory_bytes": _or_none(_count), "processes": _size, "device": _text,
}  # fmt: skip
INPUTS: dict[str, Check] = {
    "image_shape": _shape, "train_images": _count, "val_images": _count, "classes": _classes,
    "teacher_weights": _or_none(_text), "teacher_facts": _or_none(_text), "teacher_bank": _or_none(_text),
    "device": _text,
    "reused_head": _or_none(_mapping), "identity": _or_none(_mapping), "seed": _count, "batch_size": _size,
    "epochs": _size,
}  # fmt: skip


def config_of(path: Path, content: Mapping[str, Any]) -> Record:
    """A run's settings and inputs, each of its kind.

    Raises:
        InputError: naming the value that is not.
    """
    record = _checked(path, content, INPUTS)
    for name, kind in _settings().items():
        if name in record:
            try:
                as_kind(name, record[name], kind)
            except InputError as error:
                raise UnreadableError(path, shown(str(error))) from error
            except ValueError as error:  # a whole number that Python refuses to print
                raise UnreadableError(path, f"{name} cannot be {_in_words(record[name])}") from error
    return record


def joined(path: Path, *parts: Mapping[str, Any]) -> Record:
    """Several files of one folder as one; the last value of a name counts."""
    return _made(path, {name: value for part in parts for name, value in part.items()})


def summary_of(path: Path, content: Mapping[str, Any]) -> Record:
    """The numbers of a finished run, each of its kind.

    Raises:
        InputError: naming the value that is not.
    """
    record = _checked(path, content, SUMMARY)
    return _made(path, record | {name: _made(path, record[name]) for name in ("last", "best") if name in record})


def row_of(path: Path, content: Any) -> Record:
    """The numbers of one epoch.

    Raises:
        InputError: naming the value that is not a number.
    """
    if not isinstance(content, dict):
        raise UnreadableError(path, "a line holds no names with values")
    return _checked(path, content, ROW, _or_none(_number))


def environment_of(content: Any) -> dict[str, Any]:
    """Values that are only shown; those of another kind are left out."""
    if not isinstance(content, dict):
        return {}
    kinds = {"versions": dict, "command": list, "threads": int}
    return {name: value for name, value in content.items() if isinstance(value, kinds.get(name, str))}


def _checked(
    path: Path, content: Mapping[str, Any], checks: Mapping[str, Check], others: Check | None = None
) -> Record:
    if name := _wrong(content, checks, others):
        raise UnreadableError(path, f"{shown(name)} cannot be {_in_words(content[name])}")
    return _made(path, content)


def _in_words(value: object) -> str:
    try:
        return shown(str(value), SHOWN)
    except ValueError:  # Python refuses to print such whole numbers
        return f"a {type(value).__name__} that is too long to be shown"


def _wrong(content: Mapping[str, Any], checks: Mapping[str, Check], others: Check | None = None) -> str:
    """The first name whose value is of another kind; empty where there is none."""
    for name, value in content.items():
        check = checks.get(name, others)
        if check is not None and not check(value):
            return str(name)
    return ""


def _made(path: Path, content: Mapping[str, Any]) -> Record:
    record = Record(content)
    record.path = path
    return record


@cache
def _settings() -> dict[str, Any]:
    groups = [group for command in GROUPS.values() for group in command.values()]
    return {name: kind for group in (*groups, *COMMON) for name, kind in get_type_hints(group).items()}
