"""Sets that lie in folders of picture files: one folder a class, or Tiny-ImageNet's own layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stillroom.data.listing import Listing
from stillroom.errors import InputError

PICTURES = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".gif"))
VAL_NAMES = ("val", "validation", "test")
_CHUNK = 2048


def list_image_folder(root: Path) -> tuple[Listing, Listing | None]:
    """List ``train`` and ``val`` (``validation``, ``test``), or a single level of class folders.

    Args:
        root: the folder.

    Returns:
        The training and the validation listing; the latter None when it has to be split off.

    Raises:
        InputError: no class folders, an empty one, or classes that differ between the splits.
    """
    val_folder = next((root / name for name in VAL_NAMES if (root / name).is_dir()), None)
    if not (root / "train").is_dir():
        return _list_classes(root, root), None
    train = _list_classes(root / "train", root)
    if val_folder is None:
        return train, None
    val = _list_classes(val_folder, root)
    if train.classes != val.classes:
        raise InputError(_difference(train, val))
    return train, val


def _list_classes(split: Path, root: Path) -> Listing:
    folders = sorted(entry for entry in split.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(folders) < 2:
        found = "none" if not folders else f"only {folders[0].name!r}"
        raise InputError(f"{split} has {found} for class folders; give a folder with one folder of pictures a class")
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        own = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
        if not own:
            raise InputError(f"class folder {folder} has no pictures; add some or remove the folder")
        files += own
        labels += [label] * len(own)
    return _from_files(split, root, files, labels, tuple(folder.name for folder in folders))


def _from_files(
    split: Path, root: Path, files: Sequence[Path], labels: Sequence[int], classes: tuple[str, ...]
) -> Listing:
    def chunks() -> Iterator[Sequence[Path]]:
        for start in range(0, len(files), _CHUNK):
            yield files[start : start + _CHUNK]

    names = [path.relative_to(root).as_posix() for path in files]
    return Listing(str(split), names, np.asarray(labels, dtype=np.int64), classes, chunks)


def _difference(train: Listing, val: Listing) -> str:
    sides = []
    for one, other in ((train, val), (val, train)):
        extra = sorted(set(one.classes) - set(other.classes))
        if extra:
            more = f" and {len(extra) - 3} more" if len(extra) > 3 else ""
            sides.append(f"{', '.join(extra[:3])}{more} only in {one.where}")
    return f"class folders differ: {'; '.join(sides)}; give both splits the same class folders"


def is_tiny_imagenet(root: Path) -> bool:
    """Whether the folder has the layout of Stanford's archive."""
    return (root / "wnids.txt").is_file() and (root / "val" / "val_annotations.txt").is_file()


def list_tiny_imagenet(root: Path) -> tuple[Listing, Listing]:
    """List Stanford's layout: ``train/<id>/images``, and ``val/images`` with its table of labels.

    Labels follow the sorted WordNet ids, as in published work; ``wnids.txt`` is not sorted.

    Args:
        root: the folder ``tiny-imagenet-200``.

    Raises:
        InputError: class folders that do not match ``wnids.txt``, or an unknown class in the table.
    """
    wnids = tuple(sorted((root / "wnids.txt").read_text().split()))
    train = _list_classes(root / "train", root)
    if train.classes != wnids:
        differ = sorted(set(train.classes) ^ set(wnids))
        raise InputError(f"{root}: train folders and wnids.txt differ in {', '.join(differ[:3])}; unpack it again")
    place = {wnid: label for label, wnid in enumerate(wnids)}
    table = root / "val" / "val_annotations.txt"
    files: list[Path] = []
    labels: list[int] = []
    for number, line in enumerate(table.read_text().splitlines(), start=1):
        cells = line.split("\t")
        if len(cells) < 2 or cells[1] not in place:
            raise InputError(f"{table} line {number} has no known class; unpack the set again")
        files.append(root / "val" / "images" / cells[0])
        labels.append(place[cells[1]])
    classes = _spoken_names(root, wnids)
    val = _from_files(root / "val", root, files, labels, classes)
    return Listing(train.where, train.names, train.labels, classes, train.chunks), val


def _spoken_names(root: Path, wnids: tuple[str, ...]) -> tuple[str, ...]:
    """Add the first word of each class where ``words.txt`` is there."""
    words = root / "words.txt"
    if not words.is_file():
        return wnids
    spoken = dict(line.split("\t", 1) for line in words.read_text().splitlines() if "\t" in line)
    return tuple(f"{wnid} {spoken[wnid].split(',')[0].strip()}" if wnid in spoken else wnid for wnid in wnids)
