"""Sets in Parquet files as Hugging Face keeps them: a column of encoded pictures and one of labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.data.decode import Source
from stillroom.data.listing import Listing
from stillroom.errors import InputError

_IMAGE = ("image", "img")
_LABEL = ("label", "labels", "fine_label")
_VAL = ("validation", "val", "test")
_CHUNK = 2048


def find_parquet(root: Path) -> tuple[list[Path], list[Path]] | None:
    """Find the files of the training and the validation split, in the folder or its ``data`` folder.

    Returns:
        Sorted files of both splits, the second list empty when there are none; None when nothing is there.
    """
    for folder in (root, root / "data"):
        train = sorted(folder.glob("train*.parquet"))
        if train:
            splits = (sorted(folder.glob(f"{name}*.parquet")) for name in _VAL)
            return train, next((files for files in splits if files), [])
    return None


def list_parquet(train: Sequence[Path], val: Sequence[Path]) -> tuple[Listing, Listing | None]:
    """List the rows of both splits.

    Class names come from the schema metadata under ``huggingface``, otherwise classes are called by number.

    Args:
        train: at least one file.
        val: possibly none.

    Returns:
        The training and the validation listing; the latter None when it has to be split off.

    Raises:
        InputError: an unreadable file, missing columns, labels that are missing or have no class, or class
            names that differ between the splits.
    """
    opened = [_open(path) for path in train], [_open(path) for path in val]
    labels = tuple(_labels(files) for files in opened)
    names = [_class_names(files[0]) for files in opened if files]
    if len(names) == 2 and names[0] != names[1]:
        differ = sorted(set(names[0] or ()) ^ set(names[1] or ()))
        raise InputError(
            f"class names of {train[0]} and {val[0]} differ ({', '.join(differ[:3]) or 'in order'}); "
            "write both splits with the same features"
        )
    count = max(int(values.max(initial=0)) for values in labels) + 1
    classes = names[0] or tuple(str(number) for number in range(count))
    if count > len(classes):
        raise InputError(f"{train[0].parent} has label {count - 1} but {len(classes)} class names; repair the labels")
    if len(classes) < 2:
        raise InputError(f"{train[0].parent} has {len(classes)} class; give a set with two or more")
    listings = [_listing(files, values, classes) for files, values in zip(opened, labels, strict=True) if files]
    return listings[0], listings[1] if len(listings) > 1 else None


class _File:
    """An open Parquet file with the columns that matter."""

    def __init__(self, path: Path, file: Any, image: str, label: str) -> None:
        self.path, self.file, self.image, self.label = path, file, image, label


def _open(path: Path) -> _File:
    import pyarrow.parquet as pq
    import pyarrow.types as types

    try:
        file = pq.ParquetFile(path)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:  # pyarrow's own errors are among these
        raise _unreadable(path, error) from None
    schema = file.schema_arrow
    image = next((name for name in _IMAGE if name in schema.names), None)
    label = next((name for name in _LABEL if name in schema.names), None)
    if image is None or label is None or not types.is_struct(schema.field(image).type):
        found = ", ".join(schema.names)
        raise InputError(f"{path} has columns {found}; give image (struct of bytes and path) and label (integer)")
    if not types.is_integer(schema.field(label).type):
        raise InputError(f"{path}: column {label} is {schema.field(label).type}; give integers")
    return _File(path, file, image, label)


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{path} is not a readable Parquet file ({reason}); fetch it again")


def _labels(files: Sequence[_File]) -> np.ndarray[Any, np.dtype[np.int64]]:
    parts = [np.empty(0, dtype=np.int64)]
    for file in files:
        try:
            column = file.file.read(columns=[file.label]).column(0)
        except (OSError, ValueError) as error:
            raise _unreadable(file.path, error) from None
        values = column.fill_null(-1).to_numpy().astype(np.int64)
        if len(values) and values.min() < 0:
            row = int(values.argmin())
            raise InputError(f"{file.path} row {row} has no label; use a split with labels for every picture")
        parts.append(values)
    return np.concatenate(parts)


def _class_names(file: _File) -> tuple[str, ...] | None:
    stored = (file.file.schema_arrow.metadata or {}).get(b"huggingface")
    if stored is None:
        return None
    try:
        names = json.loads(stored)["info"]["features"][file.label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(str(name) for name in names)


def _listing(files: Sequence[_File], labels: np.ndarray[Any, np.dtype[np.int64]], classes: tuple[str, ...]) -> Listing:
    def chunks() -> Iterator[Sequence[Source]]:
        for file in files:
            try:
                for batch in file.file.iter_batches(_CHUNK, columns=[f"{file.image}.bytes"]):
                    yield batch.column(0).field(0).to_pylist()
            except (OSError, ValueError) as error:
                raise _unreadable(file.path, error) from None

    names = [f"{file.path.name} row {row}" for file in files for row in range(file.file.metadata.num_rows)]
    return Listing(str(files[0].path), names, labels, classes, chunks)
