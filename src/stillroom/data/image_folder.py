"""List the images of an image folder: one folder per class, with or without train and val folders.

Images in a folder ``unlabelled`` beside the class folders have no label. They are training images only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stillroom.data.folder_scan import FolderScan
from stillroom.data.folder_store import FileNames, FolderStore
from stillroom.data.listing import Listing
from stillroom.data.source import UNKNOWN
from stillroom.files import first_few, shown
from stillroom.formatting import counted

VAL_NAMES = ("val", "validation", "valid", "test")
_LIKE_SPLITS = frozenset(("train", "training", "testing", *VAL_NAMES))
_CHUNK = 2048


def list_image_folder(root: Path, depth: int = 1) -> tuple[Listing, Listing | None]:
    """List ``train`` and ``val`` (``validation``, ``valid``, ``test``), or class folders without a split.

    A ``train`` folder without class folders beside a ``val`` folder with them has training images without labels.

    Args:
        root: the folder.
        depth: how many levels below the split the class folders are; every image below one is of its class.

    Returns:
        The training and the validation listing; the second is None if there is no validation folder. Problems with the
        folders (none, empty ones, classes that differ) are in their ``problems``.
    """
    if not _is_split(root):
        return list_classes(root, root, depth), None
    beside = FolderScan(root, root)
    beside.class_folders()
    val_folder = find_validation(root)
    if val_folder is None:
        return list_classes(root / "train", root, depth, beside.unlabelled), None
    val = list_classes(val_folder, root, depth, training=False)
    if len(val.classes) > 1 and _is_flat(root / "train"):
        folders = [root / "train", *beside.unlabelled]
        train = list_without_labels(root / "train", root, folders, val.classes)
        note = f"{shown(root / 'train')} has no class folders: its images are training images without labels"
        return replace(train, notes=(note, *train.notes)), val
    train = list_classes(root / "train", root, depth, beside.unlabelled)
    if train.classes != val.classes:
        val = replace(val, problems=(*val.problems, _difference(train, val)))
    return train, val


def _is_split(root: Path) -> bool:
    """Whether ``train`` is a split and not a class: it contains folders, or no folder beside it can be a class."""
    train = root / "train"
    if not train.is_dir():
        return False
    beside = [folder for folder in FolderScan(root, root).class_folders() if folder.name not in _LIKE_SPLITS]
    return not beside or bool(FolderScan(train, root).class_folders())


def find_validation(root: Path) -> Path | None:
    """Return the folder of the validation images; None if there is none."""
    return next((root / name for name in VAL_NAMES if (root / name).is_dir()), None)


def _is_flat(split: Path) -> bool:
    """Whether a split has images and no class folders."""
    scan = FolderScan(split, split)
    return not scan.class_folders() and bool(scan.outside or scan.unlabelled)


def list_classes(
    split: Path, root: Path, depth: int = 1, beside: Sequence[Path] = (), *, training: bool = True
) -> Listing:
    """List the images of one split, one folder per class.

    Args:
        split: the folder that contains the class folders.
        root: the folder of the set; names are paths relative to it.
        depth: how many levels below the split the class folders are.
        beside: folders elsewhere with more images without a label.
        training: whether images without a label are listed; otherwise a note says that they are left out.
    """
    scan = FolderScan(split, root)
    folders = scan.class_folders(depth)
    names = tuple(folder.relative_to(split).as_posix() for folder in folders)
    problems = _class_problems(split, names, scan, depth) if folders or not scan.faults else []
    files: list[str] = []
    labels: list[int] = []
    empty: list[str] = []
    nested: list[list[Path]] = []
    for label, folder in enumerate(folders):
        before = scan.faults
        own = scan.images(folder)
        if not own and scan.faults == before:
            empty.append(folder.relative_to(root).as_posix())
        nested.append(_folders_inside(folder, root, own))
        files += own
        labels += [label] * len(own)
    free = [file for folder in (*scan.unlabelled, *beside) for file in scan.images(folder)]
    if training:
        files += free
        labels += [UNKNOWN] * len(free)
    if empty:
        problems.append(
            f"{counted(len(empty), 'class folder')} with no images: {first_few(empty)}; add some or remove the folder"
        )
    problems += scan.problems()
    notes = _notes(split, scan.outside, nested, depth)
    if free:
        where = first_few([f"{folder.relative_to(root).as_posix()}/" for folder in (*scan.unlabelled, *beside)])
        use = "training images without a label" if training else "left out, because validation images need a label"
        notes += (f"{counted(len(free), 'image')} of {where}: {use}",)
    return replace(from_files(split, root, files, labels, names, problems), notes=notes)


def list_without_labels(split: Path, root: Path, folders: Sequence[Path], classes: tuple[str, ...]) -> Listing:
    """List all images below some folders, none with a label.

    Args:
        split: the folder that messages name.
        root: the folder of the set; names are paths relative to it.
        folders: the folders, none inside another.
        classes: the names of the classes.
    """
    scan = FolderScan(root, root)
    files = [file for folder in folders for file in scan.images(folder)]
    return from_files(split, root, files, [UNKNOWN] * len(files), classes, scan.problems())


def _folders_inside(folder: Path, root: Path, names: Sequence[str]) -> list[Path]:
    """Return the subfolders of a class folder if two or more contain all of its images: they may be the classes."""
    start = len(folder.relative_to(root).as_posix()) + 1
    below = {name[start:].partition("/")[:2] for name in names}
    return sorted(folder / name for name, _ in below) if len(below) > 1 and all(slash for _, slash in below) else []


def _notes(split: Path, outside: Sequence[Path], nested: Sequence[Sequence[Path]], depth: int) -> tuple[str, ...]:
    """Warn about folders inside class folders, and about images outside of class folders."""
    notes = []
    inner = [folder.relative_to(split).as_posix() for folders in nested for folder in folders]
    if inner:
        many = sum(bool(folders) for folders in nested)
        notes.append(
            f"{many} of the {len(nested)} class folders of {shown(split)} have {len(inner):,} folders with images "
            f"inside ({first_few(inner)}), which all count as the outer class; class_depth={depth + 1} makes the inner "
            "folders the classes"
        )
    if outside:
        names = first_few([file.relative_to(split).as_posix() for file in outside])
        notes.append(f"{counted(len(outside), 'image')} of {shown(split)} outside of class folders left out: {names}")
    return tuple(notes)


def _class_problems(split: Path, names: Sequence[str], scan: FolderScan, depth: int) -> list[str]:
    if len(names) < 2:
        found = first_few([f"only {name!r}" for name in names]) or "none"
        images = f"holds {counted(len(scan.outside), 'image')} and " if scan.outside else ""
        inside = f", or {shown(split / names[0])} if its folders are the classes" if names else ""
        below = "" if depth == 1 else f" {depth} levels below it"
        without = "; to distil on images without labels, give labels=none" if scan.outside or scan.unlabelled else ""
        return [
            f"{shown(split)} {images}has {found} for class folders{below}; put the images of each class into a folder "
            f"of its own, like {shown(split)}/CLASS/IMAGE.png{inside}{without}"
        ]
    if all(name.lower() in _LIKE_SPLITS for name in names):
        return [f"the folders of {split} are named like splits ({first_few(names)}); name them 'train' and 'val'"]
    bytes_in = [name for name in names if any("\udc80" <= letter <= "\udcff" for letter in name)]
    if bytes_in:
        count = counted(len(bytes_in), "class folder")
        return [f"{count} with a name that is not UTF-8 text: {first_few(bytes_in)}; rename"]
    return []


def from_files(
    split: Path,
    root: Path,
    files: Sequence[str],
    labels: Sequence[int],
    classes: tuple[str, ...],
    problems: Sequence[str] = (),
) -> Listing:
    """Make a listing of image files.

    Args:
        split: the folder that messages name.
        root: the folder of the set.
        files: names relative to it.
        labels: of the files.
        classes: the names of the classes.
        problems: problems found so far.
    """
    names = FileNames(files)

    def chunks() -> Iterator[Sequence[Path]]:
        for start in range(0, len(names), _CHUNK):
            yield [root / name for name in names[start : start + _CHUNK]]

    return Listing(
        str(split), names, np.asarray(labels, dtype=np.int64), classes, chunks, tuple(problems),
        store=FolderStore(root, names),
    )  # fmt: skip


def _difference(train: Listing, val: Listing) -> str:
    sides = []
    for one, other in ((train, val), (val, train)):
        extra = sorted(set(one.classes) - set(other.classes))
        if extra:
            sides.append(f"{first_few(extra)} only in {one.where}")
    return f"class folders differ: {'; '.join(sides)}; give both splits the same class folders"
