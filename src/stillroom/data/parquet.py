"""List the images of Parquet files in the Hugging Face layout: a column of encoded images and one of labels.

A training row whose label is null or -1, which hides a label there, is an image without a label.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillroom.data.image_store import Encoded
from stillroom.data.listing import Listing
from stillroom.data.problem_report import ProblemReport
from stillroom.data.source import UNKNOWN
from stillroom.errors import InputError
from stillroom.files import first_few, shown
from stillroom.formatting import counted

_IMAGE = ("image", "img")
_LABEL = ("label", "labels", "fine_label")
_VAL = ("validation", "val", "test")
_CHUNK = 2048
_BYTES_AT_ONCE = 2**27  # bytes of encoded images to read at a time

_Labels = NDArray[np.int64]


def find_parquet(root: Path) -> tuple[list[Path], list[Path]] | None:
    """Find the files of the training and the validation split, in the folder or its ``data`` folder.

    Returns:
        Sorted files of both splits, the second list empty if there are none; None if there are no Parquet files.
    """
    for folder in (root, root / "data"):
        train = sorted(folder.glob("train*.parquet"))
        if train:
            splits = (sorted(folder.glob(f"{name}*.parquet")) for name in _VAL)
            return train, next((files for files in splits if files), [])
    return None


def list_parquet(
    train: Sequence[Path], val: Sequence[Path], *, need_labels: bool = True
) -> tuple[Listing, Listing | None]:
    """List the rows of both splits.

    Class names come from the schema metadata under ``huggingface``; otherwise classes are named by number.

    Args:
        train: at least one file.
        val: possibly none.
        need_labels: whether to refuse training rows none of which has a label.

    Returns:
        The training and the validation listing; the second is None if there are no validation files. Problems with
        labels and class names (missing, out of range, different between files) are in the ``problems`` of the first;
        such labels are -1 in the listing.

    Raises:
        InputError: files cannot be read or have no such column; the message names all of them.
    """
    report = ProblemReport(str(train[0].parent))
    files = [_opened(paths, report) for paths in (train, val)]
    report.close()
    report = ProblemReport(report.where)
    whole = [file for split in files for file in split]
    names = _class_names(whole, report)
    count = 1 + max((int(file.labels.max(initial=0)) for file in whole), default=0)
    classes = names or tuple(str(number) for number in range(min(count, sum(len(file.labels) for file in whole))))
    if len(classes) < 2:
        report.add(f"{report.where} has {counted(len(classes), 'class')}; give a set with two or more")
    free = sum(int((file.labels == UNKNOWN).sum()) for file in files[0])
    rows = sum(len(file.labels) for file in files[0])
    if need_labels and free == rows > 0:
        report.add(f"no row of {report.where} has a label; to distil on images without labels, give labels=none")
    for file in whole:
        report.add(_mend_labels(file, len(classes), UNKNOWN if file in files[0] else 0))
    for split in files:
        if split and not any(len(file.labels) for file in split):
            report.add(f"{first_few([str(file.path) for file in split])} has no rows; give a split with images")
    problems = tuple(report.problems)
    listed = _listing(files[0], classes, problems)
    if free:
        listed = replace(listed, notes=(f"{counted(free, 'row')} without a label: training images without a label",))
    return listed, _listing(files[1], classes) if files[1] else None


@dataclass(eq=False)
class _File:
    """An open Parquet file, the names of its columns, and its labels: below 0 where there is none."""

    path: Path
    file: Any
    image: str
    label: str
    labels: _Labels


def _opened(paths: Sequence[Path], report: ProblemReport) -> list[_File]:
    files = []
    for path in paths:
        with report.catching():
            files.append(_open(path))
    return files


def _open(path: Path) -> _File:
    import pyarrow.parquet as pq

    if not path.is_file():  # a pipe would block for ever
        raise InputError(f"{shown(path)} is not a regular file; download it again")
    try:
        file = pq.ParquetFile(path)  # type: ignore[no-untyped-call]
        schema = file.schema_arrow
    except _unreadable_errors() as error:
        raise _unreadable(path, error) from None
    image, label = _columns(path, schema)
    try:
        column = file.read(columns=[label]).column(0)  # type: ignore[no-untyped-call]
        labels = column.fill_null(0).cast("int64", safe=False).to_numpy().copy()
        labels[column.is_null().to_numpy()] = UNKNOWN
    except _unreadable_errors() as error:
        raise _unreadable(path, error) from None
    return _File(path, file, image, label, labels)


def _columns(path: Path, schema: Any) -> tuple[str, str]:
    """Return the names of the columns of images and labels."""
    import pyarrow.types as types

    image = next((name for name in _IMAGE if name in schema.names), None)
    label = next((name for name in _LABEL if name in schema.names), None)
    found = first_few(schema.names)
    if image is None or label is None:
        raise InputError(f"{path} has columns {found}; give image (struct of bytes and path) and label (integer)")
    if schema.names.count(image) > 1 or schema.names.count(label) > 1:
        raise InputError(f"{path} has columns {found}; give {image} and {label} once each")
    kind, parts = schema.field(image).type, {}
    if types.is_struct(kind):
        parts = {kind.field(place).name: kind.field(place).type for place in range(kind.num_fields)}
    if "bytes" not in parts or not (types.is_binary(parts["bytes"]) or types.is_large_binary(parts["bytes"])):
        raise InputError(f"{path}: column {image} is {kind}; give image as a struct of bytes (binary) and path")
    if not types.is_integer(schema.field(label).type):
        raise InputError(f"{path}: column {label} is {schema.field(label).type}; give integers")
    return image, label


def _unreadable_errors() -> tuple[type[Exception], ...]:
    # Imported late because it is slow.
    arrow: type[Exception] = importlib.import_module("pyarrow").ArrowException
    return arrow, OSError, ValueError


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = shown(str(error).splitlines()[0] if str(error) else type(error).__name__)
    return InputError(f"{path} is not a readable Parquet file ({reason}); download it again")


def _mend_labels(file: _File, classes: int, least: int) -> str:
    """Set labels below ``least`` and beyond the classes to -1; return a message about them, or an empty string."""
    missing, beyond = (file.labels < least).nonzero()[0], (file.labels >= classes).nonzero()[0]
    told = []
    if len(missing):
        rows = first_few([str(row) for row in missing])
        told.append(f"{counted(len(missing), 'row')} of {file.path} without a label (row {rows})")
    if len(beyond):
        rows = first_few([f"row {row}: {file.labels[row]}" for row in beyond])
        told.append(f"{counted(len(beyond), 'label')} of {file.path} beyond the {classes} classes ({rows})")
    file.labels[missing] = file.labels[beyond] = UNKNOWN
    return f"{', '.join(told)}; use a split with a correct label for every image" if told else ""


def _class_names(files: Sequence[_File], report: ProblemReport) -> tuple[str, ...] | None:
    """Return the class names of the first file, or None if it has none; report files that differ."""
    names = [_stored_names(file) for file in files]
    for file, other in zip(files[1:], names[1:], strict=True):
        if other != names[0]:
            differ = sorted(set(names[0] or ()) ^ set(other or ()))
            report.add(
                f"class names of {files[0].path} and {file.path} differ ({first_few(differ) or 'in order'}); "
                "write all files with the same features"
            )
            break
    return names[0] if names else None


def _stored_names(file: _File) -> tuple[str, ...] | None:
    stored = (file.file.schema_arrow.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(stored)["info"]["features"][file.label]["names"] if stored else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) and names else None


def _rows_at_once(file: _File) -> int:
    """Number of rows to read at a time, fewer for large images."""
    metadata = file.file.metadata
    size = sum(int(metadata.row_group(number).total_byte_size) for number in range(metadata.num_row_groups))
    return max(1, min(_CHUNK, _BYTES_AT_ONCE * int(metadata.num_rows) // max(1, size)))


def _listing(files: Sequence[_File], classes: tuple[str, ...], problems: tuple[str, ...] = ()) -> Listing:
    def chunks() -> Iterator[Sequence[Encoded]]:
        for file in files:
            try:
                for batch in file.file.iter_batches(_rows_at_once(file), columns=[f"{file.image}.bytes"]):
                    yield batch.column(0).field(0).to_pylist()
            except _unreadable_errors() as error:
                raise _unreadable(file.path, error) from None

    names = [f"{file.path.name} row {row}" for file in files for row in range(len(file.labels))]
    labels = np.concatenate([file.labels for file in files])
    return Listing(str(files[0].path), names, labels, classes, chunks, problems)
