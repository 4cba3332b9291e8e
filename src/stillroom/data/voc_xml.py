"""Read annotations in Pascal VOC's XML format."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stillroom.data.box_listing import BoxListing, Objects, in_threads, told
from stillroom.data.folder_scan import IMAGES
from stillroom.errors import InputError
from stillroom.files import shown
from stillroom.reading import read_text, read_xml

_TABLES = (("train", "val"), ("trainval", "test"), ("train", "test"), ("trainval", None), ("train", None))
_BELOW = ("", "VOCdevkit")


def find_voc(root: Path) -> Path | None:
    """Return the folder that has ``Annotations`` and ``JPEGImages``: the given one, or the only ``VOC*`` below it.

    Raises:
        InputError: there are several below it.
    """
    found = [root] if _is_voc(root) else []
    if not found:
        found = [path for below in _BELOW for path in sorted((root / below).glob("VOC*")) if _is_voc(path)]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InputError(f"{shown(root)} has {names}; give the folder of one, data={shown(found[-1])}")
    return found[0] if found else None


def _is_voc(folder: Path) -> bool:
    return (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir()


class _Thing(NamedTuple):
    """One object as annotated: its class, edges with pixels counted from 1, and whether it is difficult."""

    name: str
    edges: tuple[float, ...]
    difficult: bool


class _Annotated(NamedTuple):
    """The annotations of one image: height and width, objects, and what is wrong."""

    size: tuple[int, int]
    things: list[_Thing]
    problem: str


def list_voc(root: Path, folder: Path) -> tuple[BoxListing, BoxListing | None]:
    """Read the annotations of both splits of ``ImageSets/Main``, or of all images where there are none.

    VOC counts pixels from 1, and a box includes its last pixel: (1, 1, 1, 1) is the first pixel. Here it becomes the
    edges (0, 0, 1, 1). A ``difficult`` object is kept as a crowd: it is not trained on, and a detection of it counts
    neither as correct nor as wrong, as in VOC's own evaluation. Classes are the sorted names in both splits.

    Args:
        root: the folder of the set.
        folder: what :func:`find_voc` returned.

    Returns:
        The listings; what is wrong with the annotations is in their ``problems``.

    Raises:
        OSError: a folder cannot be opened.
    """
    tables, splits = _splits(folder)
    found = [_read_split(folder, stems) for stems in splits]
    names = [{thing.name for one in own for thing in one.things} for own in found]
    classes = tuple(sorted(set().union(*names)))
    images = _images(folder)
    listings = [
        _listing(root, folder, table, stems, own, images, classes)
        for table, stems, own in zip(tables, splits, found, strict=True)
    ]
    if len(listings) == 1:
        return listings[0], None
    unseen = told(
        sorted(names[1] - names[0]), "class", f"only in {shown(listings[1].where)}",
        "correct the names, or put images of them into the training split",
    )  # fmt: skip
    return listings[0], listings[1].with_problems(unseen)


def _splits(folder: Path) -> tuple[list[Path], list[list[str]]]:
    """The tables of the splits, or the folder of annotations, and the names of the images in each without suffix."""
    main = folder / "ImageSets" / "Main"
    for pair in _TABLES:
        tables = [main / f"{name}.txt" for name in pair if name is not None]
        if all(table.is_file() for table in tables):
            rows = [(line.split() for line in read_text(table).splitlines()) for table in tables]
            return tables, [[row[0] for row in own if row] for own in rows]
    annotations = folder / "Annotations"
    return [annotations], [sorted(path.stem for path in annotations.glob("*.xml") if path.name[0] != ".")]


def _images(folder: Path) -> dict[str, str]:
    """The file of each image by its name without suffix."""
    files = (path for path in sorted((folder / "JPEGImages").iterdir()) if path.suffix.lower() in IMAGES)
    return {path.stem: path.name for path in files if not path.name.startswith(".")}


def _read_split(folder: Path, stems: Sequence[str]) -> list[_Annotated]:
    return list(in_threads(lambda stem: _read(folder / "Annotations" / f"{stem}.xml"), stems))


def _read(path: Path) -> _Annotated:
    """Read the annotations of one image."""
    try:
        if path.parent.name != "Annotations":
            raise InputError("its name is a path")
        root = read_xml(path)
        size = _whole(root.findtext("size/height")), _whole(root.findtext("size/width"))
        things = [_thing(entry) for entry in root.iterfind("object")]
    except FileNotFoundError:
        return _Annotated((0, 0), [], f"{path.name} (missing)")
    except (OSError, InputError) as error:
        reason = getattr(error, "reason", None) or str(error)
        return _Annotated((0, 0), [], f"{path.name} ({shown(reason, 80)})")
    return _Annotated(size, things, "")


def _thing(entry: ET.Element) -> _Thing:
    """Interpret an <object>.

    Raises:
        InputError: saying what it lacks.
    """
    name = (entry.findtext("name") or "").strip()
    texts = [entry.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
    if not name:
        raise InputError("an object without a name")
    try:
        edges = tuple(float(text or "") for text in texts)
    except ValueError:
        raise InputError(f"an object {shown(name, 20)} without four numbers in its bndbox") from None
    return _Thing(name, edges, (entry.findtext("difficult") or "0").strip() == "1")


def _listing(
    root: Path,
    folder: Path,
    table: Path,
    stems: Sequence[str],
    found: Sequence[_Annotated],
    images: dict[str, str],
    classes: tuple[str, ...],
) -> BoxListing:
    label_of = {name: label for label, name in enumerate(classes)}
    objects = Objects()
    for owner, one in enumerate(found):
        for number, thing in enumerate(one.things, start=1):
            left, top, right, bottom = thing.edges
            objects.add(owner, (left - 1, top - 1, right, bottom), label_of[thing.name], thing.difficult, number)
    prefix = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    # An image that is missing is reported with those that cannot be read.
    names = [f"{prefix}JPEGImages/{images.get(stem, f'{stem}.jpg')}" for stem in stems]
    twice = [stem for stem, before in zip(sorted(stems)[1:], sorted(stems), strict=False) if stem == before]
    broken = [one.problem for one in found if one.problem]
    where = shown(folder / "Annotations")
    problems = (
        told(broken, "file", f"of {where} that cannot be read", "write it again, or remove the image from the split"),
        told(twice, "image", f"with two lines in {shown(table)}", "remove one"),
    )
    said = np.asarray([one.size for one in found], np.int64).reshape(-1, 2)
    listing = BoxListing(str(table), names, classes, objects, "object", said=said)
    return listing.with_problems(*problems)


def _whole(text: str | None) -> int:
    """A side of an image by its annotations; 0 where it is not said."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
