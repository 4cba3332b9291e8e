"""Image tables: files whose rows are an encoded image and a label, in the layout of Hugging Face.

What Parquet and Arrow files have in common. A training row whose label is null or -1, which hides a label there, is an
image without a label.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from stillroom.data.image_store import Encoded
from stillroom.data.listing import Listing
from stillroom.data.problem_report import ProblemReport
from stillroom.data.source import UNKNOWN
from stillroom.errors import InputError
from stillroom.files import first_few, shown
from stillroom.formatting import counted

VAL_PREFIXES = ("validation", "val", "test")
CHUNK_ROWS = 2048
CHUNK_BYTES = 2**27  # of encoded images to read at a time

_IMAGE = ("image", "img")
_LABEL = ("label", "labels", "fine_label")

Labels = NDArray[np.int64]


@dataclass(eq=False)
class TableFile:
    """One file of a split.

    Attributes:
        path: the file.
        labels: int64 (rows,), below 0 where there is none.
        class_names: the names that its schema stores; None if it stores none.
    """

    path: Path
    labels: Labels
    class_names: tuple[str, ...] | None


File = TypeVar("File", bound=TableFile)


def open_splits(
    train: Sequence[Path], val: Sequence[Path], open_file: Callable[[Path], File]
) -> tuple[list[File], list[File]]:
    """Open the files of both splits.

    Raises:
        InputError: some cannot be opened; the message names all of them.
    """
    report = ProblemReport(str(train[0].parent))
    files: tuple[list[File], list[File]] = [], []
    for opened, paths in zip(files, (train, val), strict=True):
        for path in paths:
            with report.catching():
                opened.append(open_file(path))
    report.close()
    return files


def list_tables(
    train: Sequence[File],
    val: Sequence[File],
    read_all: Callable[[Sequence[File]], Iterator[Sequence[Encoded]]],
    *,
    need_labels: bool,
) -> tuple[Listing, Listing | None]:
    """List the rows of both splits.

    Class names come from the schema metadata under ``huggingface``; otherwise classes are named by number.

    Args:
        train: at least one file.
        val: possibly none.
        read_all: returns the images of some files in order, in chunks.
        need_labels: whether to refuse training rows none of which has a label.

    Returns:
        The training and the validation listing; the second is None if there are no validation files. Problems with
        labels and class names (missing, out of range, different between files) are in the ``problems`` of the first;
        such labels are -1 in the listing.
    """
    report = ProblemReport(str(train[0].path.parent))
    whole = [*train, *val]
    names = _common_names(whole, report)
    count = 1 + max((int(file.labels.max(initial=0)) for file in whole), default=0)
    classes = names or tuple(str(number) for number in range(min(count, sum(len(file.labels) for file in whole))))
    if len(classes) < 2:
        report.add(f"{report.where} has {counted(len(classes), 'class')}; give a set with two or more")
    free = sum(int((file.labels == UNKNOWN).sum()) for file in train)
    rows = sum(len(file.labels) for file in train)
    if need_labels and free == rows > 0:
        report.add(f"no row of {report.where} has a label; to distil on images without labels, give labels=none")
    for split, least in ((train, UNKNOWN), (val, 0)):
        for file in split:
            report.add(_mend_labels(file, len(classes), least))
    for split in (train, val):
        if split and not any(len(file.labels) for file in split):
            report.add(f"{first_few([str(file.path) for file in split])} has no rows; give a split with images")
    listed = _listing(train, classes, partial(read_all, train), tuple(report.problems))
    if free:
        listed = replace(listed, notes=(f"{counted(free, 'row')} without a label: training images without a label",))
    return listed, _listing(val, classes, partial(read_all, val)) if val else None


class RowNames(Sequence[str]):
    """The names of rows: file and number, made when they are read.

    Args:
        files: names of the files.
        counts: number of rows of each.
    """

    def __init__(self, files: Sequence[str], counts: Sequence[int]) -> None:
        self._files = tuple(files)
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._starts[-1])

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        """Return a name, such as "train.parquet row 5"."""
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        index = range(len(self))[place]
        file = int(np.searchsorted(self._starts, index, side="right")) - 1
        return f"{self._files[file]} row {index - self._starts[file]}"


def find_columns(path: Path, schema: Any) -> tuple[str, str]:
    """Return the names of the columns of images and labels.

    Raises:
        InputError: there are none, or of another type.
    """
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


def read_labels(column: Any) -> Labels:
    """Turn a column of integers into int64 labels; -1 where it is null."""
    labels: Labels = column.fill_null(0).cast("int64", safe=False).to_numpy(zero_copy_only=False).copy()
    labels[column.is_null().to_numpy(zero_copy_only=False)] = UNKNOWN
    return labels


def stored_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Return the class names in the schema's metadata; None if there are none."""
    stored = (schema.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(stored)["info"]["features"][label]["names"] if stored else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) and names else None


def arrow_errors() -> tuple[type[Exception], ...]:
    """The errors that pyarrow raises for a file that it cannot read."""
    # Imported late because it is slow.
    arrow: type[Exception] = importlib.import_module("pyarrow").ArrowException
    return arrow, OSError, ValueError


def unreadable_table(path: Path, kind: str, error: Exception) -> InputError:
    """Return the error for a file that pyarrow cannot read."""
    reason = shown(str(error).splitlines()[0] if str(error) else type(error).__name__)
    return InputError(f"{path} is not a readable {kind} file ({reason}); download it again")


def require_regular(path: Path) -> None:
    """Refuse what is not a regular file: a pipe would block for ever.

    Raises:
        InputError: it is missing, or something else.
    """
    if not path.is_file():
        raise InputError(f"{shown(path)} is not a regular file; download it again")


def _mend_labels(file: TableFile, classes: int, least: int) -> str:
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


def _common_names(files: Sequence[TableFile], report: ProblemReport) -> tuple[str, ...] | None:
    """Return the class names of the first file, or None if it has none; report files that differ."""
    names = [file.class_names for file in files]
    for file, other in zip(files[1:], names[1:], strict=True):
        if other != names[0]:
            differ = sorted(set(names[0] or ()) ^ set(other or ()))
            report.add(
                f"class names of {files[0].path} and {file.path} differ ({first_few(differ) or 'in order'}); "
                "write all files with the same features"
            )
            break
    return names[0] if names else None


def _listing(
    files: Sequence[TableFile],
    classes: tuple[str, ...],
    chunks: Callable[[], Iterator[Sequence[Encoded]]],
    problems: tuple[str, ...] = (),
) -> Listing:
    names = RowNames([file.path.name for file in files], [len(file.labels) for file in files])
    labels = np.concatenate([file.labels for file in files])
    return Listing(str(files[0].path), names, labels, classes, chunks, problems)
