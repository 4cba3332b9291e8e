"""Read annotations in COCO's JSON format, in the folders of COCO itself and in those of Roboflow's exports."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeGuard

import numpy as np

from stillroom.data.box_listing import BoxListing, Objects, finite_edges, told
from stillroom.data.image_folder import VAL_NAMES
from stillroom.errors import InputError
from stillroom.files import first_few, shown
from stillroom.reading import read_json

_BYTES = 2 * 2**30  # COCO's training annotations have 0.5 GB
_WITHOUT = ("segmentation", "keypoints", "caption")  # most of the file, and not needed
_ROBOFLOW = "_annotations.coco.json"
_WHOLE = ("annotations/instances_default.json", "annotations/instances.json", "annotations.json", _ROBOFLOW)
_LOOKED_AT = 20  # file names by which the folder of the images is found
_LARGEST = 2**62


@dataclass(frozen=True, slots=True)
class _Category:
    number: int
    name: str
    above: str  # the supercategory


def find_coco(root: Path) -> tuple[Path, Path | None] | None:
    """Return the annotations of the training split, or of all images, and of the validation split.

    Returns:
        None if the layout is another one. The second is None where there is no validation split.

    Raises:
        InputError: a split has several files of annotations.
    """
    train = _of_split(root, ("train",))
    if train is not None:
        return train, _of_split(root, VAL_NAMES)
    whole = next((root / name for name in _WHOLE if (root / name).is_file()), None)
    return None if whole is None else (whole, None)


def _of_split(root: Path, names: Sequence[str]) -> Path | None:
    """The annotations of the first of the splits that has some."""
    folder = root / "annotations"
    for name in names:
        for kind in (f"instances_{name}", name):
            found = sorted(path for path in folder.glob(f"{kind}*.json") if path.is_file())
            if len(found) > 1:
                raise InputError(
                    f"{shown(folder)} has several annotations for {name} ({first_few([path.name for path in found])}); "
                    "keep one there"
                )
            if found:
                return found[0]
        if (root / name / _ROBOFLOW).is_file():
            return root / name / _ROBOFLOW
    return None


def list_coco(root: Path, train: Path, val: Path | None) -> tuple[BoxListing, BoxListing | None]:
    """Read the annotations of both splits.

    Categories become labels 0 to K - 1 in the order of their ids, which may have gaps. A crowd (``iscrowd``) is kept as
    one. Images without objects are kept.

    Args:
        root: the folder of the set.
        train: the annotations of the training split, or of all images.
        val: the annotations of the validation split.

    Returns:
        The listings; what is wrong with the annotations is in their ``problems``.
    """
    files = [_File(root, path) for path in (train, val) if path is not None]
    above = [file.overall for file in files]
    drop = above[0] if all(category == above[0] for category in above) else None
    listings = [file.listing(drop) for file in files]
    if val is None:
        return listings[0], None
    return listings[0], listings[1]


class _File:
    """One file of annotations, read but not interpreted beyond its categories."""

    def __init__(self, root: Path, path: Path) -> None:
        self.root, self.path = root, path
        self.problems: list[str] = []
        self.categories: list[_Category] = []
        self.parts: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
        try:
            content = read_json(path, _BYTES, _WITHOUT)
        except (OSError, InputError) as error:
            message = str(error) if isinstance(error, InputError) else f"{shown(path)} cannot be opened ({error})"
            self.problems.append(f"{message}; export the annotations again")
            return
        for part in self.parts:
            found = content.get(part) if isinstance(content, dict) else None
            if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
                self.problems.append(f"{shown(path)} has no list of objects {part!r}; export it in COCO's JSON format")
            else:
                self.parts[part] = found
        self._read_categories()

    def _read_categories(self) -> None:
        broken = []
        for entry in self.parts["categories"]:
            number, name = entry.get("id"), entry.get("name")
            if _is_id(number) and isinstance(name, str) and name:
                self.categories.append(_Category(number, name, str(entry.get("supercategory", ""))))
            else:
                broken.append(shown(entry, 60))
        self.categories.sort(key=lambda category: category.number)
        self.problems += filter(None, (
            told(broken, "entry of categories", "without an id and a name", "give each both"),
            told(_repeated(one.number for one in self.categories), "category id", "there twice", "give each its own"),
        ))  # fmt: skip

    @property
    def overall(self) -> _Category | None:
        """Roboflow's first category, which is the supercategory of all others and has no objects; None elsewhere."""
        if len(self.categories) < 2:
            return None
        first, *others = self.categories
        if first.above != "none" or any(other.above != first.name for other in others):
            return None
        used = any(entry.get("category_id") == first.number for entry in self.parts["annotations"])
        return None if used else first

    def listing(self, drop: _Category | None) -> BoxListing:
        categories = [category for category in self.categories if category != drop]
        names = tuple(category.name for category in categories)
        twice = told(_repeated(names), "category name", "there twice", "give each its own")
        images, places, said, problems = self._images()
        objects, faults = self._objects(places, {one.number: label for label, one in enumerate(categories)})
        where = shown(self.path)
        all_problems = [f"{where}: {problem}" for problem in (twice, *problems, *faults) if problem]
        notes = () if drop is None else (
            f"{where}: category {drop.number} ({shown(drop.name)}) is the supercategory of all others and has no "
            "objects; it is left out",
        )  # fmt: skip
        sizes = np.asarray(said, np.int64).reshape(-1, 2)
        return BoxListing(
            str(self.path), images, names, objects, "annotation", said=sizes,
            problems=(*self.problems, *all_problems), notes=notes,
        )  # fmt: skip

    def _images(self) -> tuple[list[str], dict[int, int], list[tuple[int, int]], list[str]]:
        """Return the images' names, the index of each image id, the sizes, and problems."""
        files: list[str] = []
        places: dict[int, int] = {}
        said: list[tuple[int, int]] = []
        broken, twice, leaving = [], [], []
        for entry in self.parts["images"]:
            number, file = entry.get("id"), entry.get("file_name")
            if not _is_id(number) or not isinstance(file, str) or not file or "\0" in file:
                broken.append(shown(entry, 60))
            elif number in places:
                twice.append(str(number))
            elif _leaves(file):
                leaving.append(shown(file, 80))
            else:
                places[number] = len(files)
                files.append(PurePosixPath(file.replace("\\", "/")).as_posix())
                said.append((_side(entry.get("height")), _side(entry.get("width"))))
        problems = [
            told(broken, "entry of images", "without an id and a file_name", "give each both"),
            told(twice, "image id", "there twice", "give each image its own"),
            told(leaving, "file_name", "that is not a path inside the set", "write paths relative to its images"),
            told(_repeated(files), "file_name", "there twice", "list each image once"),
        ]
        folder = self._image_folder(files)
        prefix = "" if folder == self.root else f"{folder.relative_to(self.root).as_posix()}/"
        return [prefix + file for file in files], places, said, problems

    def _image_folder(self, files: Sequence[str]) -> Path:
        """The folder that file names are relative to: the first that has most of some of the files."""
        stem = self.path.stem.removeprefix("instances_")
        plain = next((name for name in ("train", *VAL_NAMES) if stem.startswith(name)), stem)
        names = dict.fromkeys((stem, f"images/{stem}", plain, f"images/{plain}", "images", ""))
        folders = [self.root / name for name in names]
        if self.path.name == _ROBOFLOW:
            folders = [self.path.parent]
        some = files[:: max(1, len(files) // _LOOKED_AT)]
        return max(folders, key=lambda folder: sum((folder / file).is_file() for file in some))

    def _objects(self, places: dict[int, int], labels: dict[int, int]) -> tuple[Objects, list[str]]:
        objects = Objects()
        seen: set[int] = set()
        broken, twice, unknown, elsewhere = [], [], [], []
        for entry in self.parts["annotations"]:
            number, image, category = entry.get("id"), entry.get("image_id"), entry.get("category_id")
            box = finite_edges(entry.get("bbox"))
            if not _is_id(number) or box is None or not isinstance(entry.get("iscrowd", 0), int):
                broken.append(shown(entry, 60))
                continue
            if number in seen:
                twice.append(str(number))
            seen.add(number)
            if not _is_id(image) or image not in places:
                elsewhere.append(f"annotation {number} (image_id {shown(image, 20)})")
            elif not _is_id(category) or category not in labels:
                unknown.append(f"annotation {number} (category_id {shown(category, 20)})")
            else:
                left, top, width, height = box
                edges = left, top, left + width, top + height
                objects.add(places[image], edges, labels[category], bool(entry.get("iscrowd", 0)), number)
        return objects, [
            told(broken, "annotation", "without an id, a bbox of four numbers or a whole iscrowd", "complete them"),
            told(twice, "annotation id", "there twice", "give each annotation its own"),
            told(elsewhere, "annotation", "of an image that is not listed", "list the image or remove them"),
            told(unknown, "annotation", "of an unknown category", "add the category or remove them"),
        ]


def class_difference(train: BoxListing, val: BoxListing) -> str:
    """Say how the classes of two splits differ; empty if they do not."""
    if train.classes == val.classes or not train.classes or not val.classes:
        return ""
    only = [
        f"{first_few([name for name in one.classes if name not in other.classes])} only in {shown(one.where)}"
        for one, other in ((train, val), (val, train))
        if set(one.classes) - set(other.classes)
    ]
    how = "; ".join(only) or "the same names in another order"
    return f"the classes of the two splits differ ({how}); give both the same classes"


def _is_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _side(value: object) -> int:
    """A side of an image by its annotations; 0 where it is not said."""
    return value if isinstance(value, int) and 0 < value < _LARGEST else 0


def _leaves(name: str) -> bool:
    """Whether a file name is absolute, leads out of its folder, or cannot be that of a file."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return True
    path = PurePosixPath(name.replace("\\", "/"))
    return not path.parts or path.is_absolute() or ".." in path.parts or bool(PureWindowsPath(name).drive)


def _repeated(values: Any) -> list[str]:
    return [str(value) for value, count in Counter(values).items() if count > 1]
