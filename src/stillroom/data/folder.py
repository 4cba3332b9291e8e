"""Sets that lie in folders of picture files: one folder a class, split or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stillroom.amounts import counted
from stillroom.data.listing import Listing
from stillroom.data.report import first_few
from stillroom.data.scan import Scan

VAL_NAMES = ("val", "validation", "valid", "test")
_LIKE_SPLITS = frozenset(("train", "training", "testing", *VAL_NAMES))
_CHUNK = 2048


def list_image_folder(root: Path) -> tuple[Listing, Listing | None]:
    """List ``train`` and ``val`` (``validation``, ``valid``, ``test``), or a single level of class folders.

    Args:
        root: the folder.

    Returns:
        The training and the validation listing; the latter None when it has to be split off. What is wrong with
        the folders (none, empty ones, classes that differ) stands in their ``complaints``.
    """
    if not _is_split(root):
        return list_classes(root, root), None
    train = list_classes(root / "train", root)
    val_folder = next((root / name for name in VAL_NAMES if (root / name).is_dir()), None)
    if val_folder is None:
        return train, None
    val = list_classes(val_folder, root)
    if train.classes != val.classes:
        val = replace(val, complaints=(*val.complaints, _difference(train, val)))
    return train, val


def _is_split(root: Path) -> bool:
    """Whether ``train`` is a split: it has folders of its own, or nothing beside it could be a class."""
    train = root / "train"
    if not train.is_dir():
        return False
    beside = [folder for folder in Scan(root, root).class_folders() if folder.name not in _LIKE_SPLITS]
    return not beside or bool(Scan(train, root).class_folders())


def list_classes(split: Path, root: Path) -> Listing:
    """List the pictures of one split, one folder a class.

    Args:
        split: the folder that holds the class folders.
        root: the folder of the set; names are paths below it.
    """
    scan = Scan(split, root)
    folders = scan.class_folders()
    complaints = _class_complaints(split, folders) if folders or not scan.faults else []
    files: list[Path] = []
    labels: list[int] = []
    empty: list[str] = []
    for label, folder in enumerate(folders):
        before = scan.faults
        own = scan.pictures(folder)
        if not own and scan.faults == before:
            empty.append(folder.relative_to(root).as_posix())
        files += own
        labels += [label] * len(own)
    if empty:
        complaints.append(
            f"{counted(len(empty), 'class folder')} with no pictures: {first_few(empty)}; add some or remove the folder"
        )
    complaints += scan.complaints()
    return from_files(split, root, files, labels, tuple(folder.name for folder in folders), complaints)


def _class_complaints(split: Path, folders: Sequence[Path]) -> list[str]:
    names = [folder.name for folder in folders]
    if len(names) < 2:
        found = first_few([f"only {name!r}" for name in names]) or "none"
        return [f"{split} has {found} for class folders; give a folder with one folder of pictures a class"]
    if all(name.lower() in _LIKE_SPLITS for name in names):
        return [f"the folders of {split} are called like splits ({first_few(names)}); call them 'train' and 'val'"]
    bytes_in = [name for name in names if any("\udc80" <= letter <= "\udcff" for letter in name)]
    if bytes_in:
        count = counted(len(bytes_in), "class folder")
        return [f"{count} with a name that is no UTF-8 text: {first_few(bytes_in)}; rename"]
    return []


def from_files(
    split: Path,
    root: Path,
    files: Sequence[Path],
    labels: Sequence[int],
    classes: tuple[str, ...],
    complaints: Sequence[str] = (),
) -> Listing:
    """Make a listing of picture files below ``root``."""

    def chunks() -> Iterator[Sequence[Path]]:
        for start in range(0, len(files), _CHUNK):
            yield files[start : start + _CHUNK]

    names = [path.relative_to(root).as_posix() for path in files]
    return Listing(str(split), names, np.asarray(labels, dtype=np.int64), classes, chunks, tuple(complaints))


def _difference(train: Listing, val: Listing) -> str:
    sides = []
    for one, other in ((train, val), (val, train)):
        extra = sorted(set(one.classes) - set(other.classes))
        if extra:
            sides.append(f"{first_few(extra)} only in {one.where}")
    return f"class folders differ: {'; '.join(sides)}; give both splits the same class folders"
