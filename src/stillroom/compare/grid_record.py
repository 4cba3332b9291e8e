"""The record of a comparison in ``comparison.yaml``: written, read, and joined with a later call on the same folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillroom.compare.grid import Grid
from stillroom.compare.labels import is_same_model
from stillroom.engine.resume_check import differing, same_setting
from stillroom.errors import InputError, first_line
from stillroom.reading import UnreadableError, read_yaml
from stillroom.report.comparison_file import NAME, write_description
from stillroom.report.tuning_file import NAME as TUNING
from stillroom.resolve_model import is_run


def joined_record(grid: Grid) -> dict[str, Any]:
    """The record of a grid, joined with that of an earlier call on the same folder.

    Raises:
        InputError: the folder contains a comparison with other settings, or something else.
    """
    path = grid.folder / NAME
    if path.exists():
        return _joined(path, grid.record)
    if grid.folder.exists() and _foreign(grid):
        raise InputError(
            f"{grid.folder} contains other files and no comparison; nothing is overwritten, give another name="
        )
    return grid.record


def lies_elsewhere(grid: Grid) -> bool:
    """Whether the data set has another path now than in an earlier call on the same folder."""
    path = grid.folder / NAME
    if not path.exists():
        return False
    old, new = _read_record(path, grid.record)["settings"], grid.record["settings"]
    return not all(same_setting(name, old.get(name), new.get(name)) for name in ("data", "root"))


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write ``comparison.yaml``.

    Raises:
        InputError: it cannot be written.
    """
    try:
        write_description(folder, {name: value for name, value in record.items() if name != "tuned" or value})
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); choose another runs= folder") from error


def _foreign(grid: Grid) -> bool:
    """Whether a folder without a record contains anything but runs of this comparison, and a tuning."""
    if (grid.folder / TUNING).exists() and grid.record["tuned"]:
        return False
    known = {cell.name for cell in grid.cells} | {"bank", "logs"}
    return any(entry.name not in known and not entry.name.startswith(".") for entry in grid.folder.iterdir())


def _read_record(path: Path, like: Mapping[str, Any]) -> dict[str, Any]:
    try:
        there = read_yaml(path)
        found = {key: there.get(key, {}) if key == "tuned" else there[key] for key in like}
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
    """Join an earlier record with a new one; the axes of both are kept."""
    old = _read_record(path, record)
    # Where runs exist, their recorded fingerprints decide whether the data is the same, not its path.
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
            f"{path.parent} contains a comparison with other settings ({'; '.join(changed[:3])}); nothing is "
            "overwritten: give another name=, or the same settings to go on with it"
        )
    axes = {axis: {**old[axis], **record[axis]} for axis in ("teachers", "students", "methods", "tuned")}
    axes["reference"] = record["reference"] or old["reference"]
    return record | axes | {"seeds": sorted({*old["seeds"], *record["seeds"]})}
