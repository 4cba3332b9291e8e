"""Class map file: two columns, teacher and data, in CSV or YAML."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from stillroom.data.class_groups import synset_of
from stillroom.errors import InputError, did_you_mean
from stillroom.files import first_few, shown
from stillroom.reading import UnreadableError, parse_json, read_text, read_yaml

SEVERAL = -1  # the place of a name that several classes have

_FORM = (
    "give a .csv file with two columns, teacher and data, or a .yaml file with lines `teacher class: data class` or "
    "`data class: [teacher classes]`"
)


def read_class_map(
    path: str | Path, teacher: Sequence[str] | None, class_count: int, data: Sequence[str]
) -> tuple[int, ...]:
    """Read which class of the data each class of a teacher stands for.

    A class is named by its name or by the WordNet id with which its name begins; a teacher's class also by its index,
    counted from 0, unless that is a name. Several teacher classes may name one class of the data.

    Args:
        path: a ``.csv`` file with two columns, with or without the header "teacher,data" (or "data,teacher"); or a
            ``.yaml``, ``.yml`` or ``.json`` file with a mapping from teacher class to data class, or from data class to
            a list of teacher classes.
        teacher: the names of the teacher's classes; None where they are unknown.
        class_count: the number of the teacher's classes.
        data: the names of the data's classes.

    Returns:
        For each teacher class the index of its class of the data, or -1.

    Raises:
        InputError: the file cannot be read, names an unknown class, or gives a teacher class two classes of the data.
    """
    path = Path(path)
    teacher_places = {str(place): place for place in range(class_count)} | _places(teacher or ())
    data_places = _places(data)
    owner = "teacher" if teacher else f"teacher, whose {class_count:,} classes have indices from 0 but no names"
    index = [-1] * class_count
    origin: dict[int, str] = {}
    for where, one, other in _pairs(path):
        source = _place(path, where, one, teacher_places, owner)
        target = _place(path, where, other, data_places, "data")
        if index[source] not in (-1, target):
            raise InputError(
                f"class_map={shown(path)}: {where} gives the teacher's class {shown(one)} to {shown(other)}, but "
                f"{origin[source]} gives it to {shown(data[index[source]])}; keep one of them"
            )
        index[source] = target
        origin.setdefault(source, where)
    if not origin:
        raise InputError(f"class_map={shown(path)} holds no classes: {_FORM}")
    return tuple(index)


def _places(names: Sequence[str]) -> dict[str, int]:
    """The index of each name and WordNet id; SEVERAL where several classes have it."""
    by_name: dict[str, int] = {}
    by_synset: dict[str, int] = {}
    for place, name in enumerate(names):
        for key, places in ((name, by_name), (synset_of(name), by_synset)):
            if key is not None:
                places[key] = SEVERAL if key in places else place
    return by_synset | by_name


def _place(path: Path, where: str, name: object, places: Mapping[str, int], owner: str) -> int:
    """The index of a class that a file names."""
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise InputError(f"class_map={shown(path)}: {where} names the class {name!r}; write class names in quotes")
    place = places.get(str(name))
    if place is None:
        raise InputError(
            f"class_map={shown(path)}: {where} names {shown(name)}, which is no class of the {owner}"
            + did_you_mean(
                [shown(match) for match in get_close_matches(str(name), places, n=1)],
                f"; it has {first_few(list(places))}",
            )
        )
    if place == SEVERAL:
        raise InputError(
            f"class_map={shown(path)}: {where} names {shown(name)}, a name of several classes of the {owner}; "
            "write another name of the class, or the index of the teacher's class, counted from 0"
        )
    return place


def _pairs(path: Path) -> list[tuple[str, Any, Any]]:
    """Where each entry stands, its teacher class and its class of the data."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            return _csv_pairs(path, read_text(path))
        if suffix == ".json":
            return _mapping_pairs(path, parse_json(read_text(path), path))
        if suffix in (".yaml", ".yml"):
            return _mapping_pairs(path, read_yaml(path))
    except OSError as error:
        raise InputError(f"class_map={shown(path)} cannot be read ({error.strerror or error}): {_FORM}") from error
    except UnreadableError as error:
        raise InputError(f"class_map={shown(path)} cannot be read ({error.reason}): {_FORM}") from error
    raise InputError(f"class_map={shown(path)}: give auto, none, or the path of a .csv, .yaml or .json file")


def _csv_pairs(path: Path, text: str) -> list[tuple[str, Any, Any]]:
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), skipinitialspace=True, strict=True)
    pairs: list[tuple[str, Any, Any]] = []
    header: list[str] = []
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not pairs and not header and {cell.lower() for cell in cells} == {"teacher", "data"}:
                header = [cell.lower() for cell in cells]
                continue
            where = f"row {rows.line_num}"
            if len(cells) != 2 or not all(cells):
                raise InputError(
                    f"class_map={shown(path)}: {where} is {shown(','.join(row))!r}; write the teacher's class, a comma "
                    "and the class of the data, and a name that has a comma in double quotes"
                )
            teacher, data = reversed(cells) if header == ["data", "teacher"] else cells
            pairs.append((where, teacher, data))
    except csv.Error as error:
        raise InputError(f"class_map={shown(path)}: row {rows.line_num} is not CSV ({error}): {_FORM}") from error
    return pairs


def _mapping_pairs(path: Path, found: object) -> list[tuple[str, Any, Any]]:
    if not isinstance(found, Mapping):
        raise InputError(f"class_map={shown(path)} is no mapping: {_FORM}")
    pairs: list[tuple[str, Any, Any]] = []
    for name, value in found.items():
        where = f"the entry {shown(name)}"
        pairs += [(where, one, name) for one in value] if isinstance(value, list) else [(where, name, value)]
    return pairs
