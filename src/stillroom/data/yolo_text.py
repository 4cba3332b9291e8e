"""Read annotations in YOLO's text format: one file an image, one line an object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from stillroom.data.box_listing import BoxListing, Objects, in_threads, told
from stillroom.data.folder_scan import FolderScan
from stillroom.data.image_folder import VAL_NAMES
from stillroom.errors import InputError
from stillroom.files import shown
from stillroom.reading import read_text, read_yaml

_TABLES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_LISTS = ("classes.txt", "obj.names", "labels/classes.txt")
_LABEL_BYTES = 2**22
_TRAIN = ("train", "training")
_LOOKED_AT = 50  # entries of a folder by which a layout is recognised
_POLYGON = 6  # coordinates, at least; their bounding box is taken


class YoloFolders(NamedTuple):
    """Where the images of a set are: those of the training split, or all; and those of the validation split."""

    train: Path
    val: Path | None


def find_yolo(root: Path) -> YoloFolders | None:
    """Return the folders of the images where annotations in YOLO's format are beside them; None for other layouts."""
    pairs = ((f"images/{name}" for name in _TRAIN), (f"{name}/images" for name in _TRAIN))
    for below in (name for pair in pairs for name in pair):
        if (root / below).is_dir() and _has_texts(_labels_of(root / below, root)):
            kind = below.replace("training", "{}").replace("train", "{}")
            vals = (root / kind.format(name) for name in VAL_NAMES)
            return YoloFolders(root / below, next((path for path in vals if path.is_dir()), None))
    named = _named_folders(root)
    if named is not None:
        return named
    if (root / "images").is_dir() and _has_texts(root / "labels"):
        return YoloFolders(root / "images", None)
    return None


def _named_folders(root: Path) -> YoloFolders | None:
    """The folders that the table of the set names, where they are inside it; equal ones are no two splits."""
    table = _find(root, _TABLES)
    if table is None:
        return None
    try:
        content = read_yaml(table)
    except (OSError, InputError):
        return None  # read again, and reported, where the layout is known
    if not isinstance(content, dict):
        return None
    train, val = (_inside(root, content.get(split)) for split in ("train", "val"))
    if train is None or not _has_texts(_labels_of(train, root)):
        return None
    return YoloFolders(train, None if val == train else val)


def _inside(root: Path, name: object) -> Path | None:
    """The folder of a name relative to the set; None if there is none, or it is elsewhere."""
    if not isinstance(name, str) or not name or ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
        return None
    folder = root / name
    return folder if folder.is_dir() else None


def list_yolo(root: Path, folders: YoloFolders) -> tuple[BoxListing, BoxListing | None]:
    """Read the annotations of both splits.

    A line is "class centre-x centre-y width height", in fractions of the image, or "class x1 y1 x2 y2 x3 y3 ..." of a
    polygon, whose bounding box is taken. An image without a file of annotations has no objects. Names of classes are
    in ``data.yaml`` (``names``), or one a line in ``classes.txt``.

    Args:
        root: the folder of the set.
        folders: what :func:`find_yolo` returned.

    Returns:
        The listings; what is wrong with the annotations is in their ``problems``.
    """
    classes, problem = _class_names(root)
    train = _listing(root, folders.train, classes).with_problems(problem)
    return train, None if folders.val is None else _listing(root, folders.val, classes)


def _class_names(root: Path) -> tuple[tuple[str, ...], str]:
    """The names of the classes, and what is wrong with them."""
    table = _find(root, (*_TABLES, *_LISTS))
    if table is None:
        return (), f"{shown(root)} has no names of classes; write data.yaml with names: [NAME, ...]"
    try:
        if table.suffix in (".yaml", ".yml"):
            content = read_yaml(table)
            names = _listed(content.get("names") if isinstance(content, dict) else None)
        else:
            names = [line.strip() for line in read_text(table).splitlines() if line.strip()]
    except (OSError, InputError) as error:
        return (), str(error)
    if not names:
        return (), f"{shown(table)} has no names of classes; write names: [NAME, ...], or a mapping from 0, 1, ..."
    twice = [name for name, count in Counter(names).items() if count > 1]
    return tuple(names), told(twice, "name", f"twice in {shown(table)}", "give each class its own")


def _listed(names: Any) -> list[str]:
    """Names as a list, from a list or from a mapping of 0, 1, ...; empty for anything else."""
    if isinstance(names, dict):
        names = [names[number] for number in range(len(names))] if set(names) == set(range(len(names))) else None
    if not isinstance(names, list) or not all(isinstance(name, str | int | float) and str(name) for name in names):
        return []
    return [str(name) for name in names]


def _find(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_file()), None)


def _labels_of(images: Path, root: Path) -> Path:
    """The folder of the annotations of a folder of images: its last part ``images`` becomes ``labels``."""
    parts = list(images.relative_to(root).parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return root.joinpath(*parts)


def _has_texts(folder: Path, deeper: bool = True) -> bool:
    """Whether one of the first entries of a folder, or of a folder in it, is a text file."""
    if not folder.is_dir():
        return False
    some = list(islice(folder.iterdir(), _LOOKED_AT))
    return any(path.suffix == ".txt" for path in some) or (deeper and any(_has_texts(path, False) for path in some))


class _Labelled(NamedTuple):
    """The objects of one image: of each the line, the class and the edges; and what is wrong."""

    lines: list[tuple[int, int, tuple[float, ...]]]
    problem: str
    missing: bool = False


def _listing(root: Path, images: Path, classes: tuple[str, ...]) -> BoxListing:
    scan = FolderScan(images, root)
    names = scan.images(images)
    labels = _labels_of(images, root)
    stems = [PurePosixPath(name).relative_to(images.relative_to(root).as_posix()).with_suffix("") for name in names]
    found = list(in_threads(lambda stem: _read(labels / f"{stem}.txt"), stems))
    objects = Objects()
    unknown = []
    for owner, one in enumerate(found):
        for line, label, edges in one.lines:
            if 0 <= label < len(classes):
                objects.add(owner, edges, label, False, line)
            elif classes:
                unknown.append(f"{stems[owner]}.txt line {line} (class {label})")
    known = Counter(map(str, stems))
    texts = (path.relative_to(labels).with_suffix("").as_posix() for path in labels.rglob("*.txt"))
    alone = sorted(f"{text}.txt" for text in texts if text not in known and text not in ("classes", "train", "val"))
    same = [stem for stem, count in known.items() if count > 1]
    broken = [f"{stem}.txt ({one.problem})" for stem, one in zip(stems, found, strict=True) if one.problem]
    where, bare = shown(labels), sum(one.missing for one in found)
    problems = (
        told(broken, "file", f"of {where} that cannot be read", "write each line as: class x y width height"),
        told(unknown, "line", f"of {where} with a class that has no name", "correct the class, or name it"),
        told(alone, "file", f"of {where} without an image in {shown(images)}", "add the image or remove the file"),
        told(same, "name", f"of more than one image in {shown(images)}", "rename all but one"),
        f"none of the images of {shown(images)} has a file in {where}" if names and bare == len(names) else "",
        *scan.problems(),
    )
    return BoxListing(str(images), names, classes, objects, "line", relative=True).with_problems(*problems)


def _read(path: Path) -> _Labelled:
    """Read the objects of one image."""
    try:
        lines = read_text(path, _LABEL_BYTES).splitlines()
    except FileNotFoundError:
        return _Labelled([], "", missing=True)
    except (OSError, InputError) as error:
        return _Labelled([], shown(getattr(error, "reason", None) or str(error), 80))
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        parsed = _parse(line.split())
        if parsed is None:
            return _Labelled([], f"line {number}: {shown(line, 40)}")
        found.append((number, *parsed))
    return _Labelled(found, "")


def _parse(words: Sequence[str]) -> tuple[int, tuple[float, ...]] | None:
    """The class and the edges of a line; None if it is none."""
    try:
        label, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        return None
    if not label.is_integer() or abs(label) > 2**31:
        return None
    if len(values) == 4:
        x, y, width, height = values
        return int(label), (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if len(values) < _POLYGON or len(values) % 2:
        return None
    return int(label), (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
