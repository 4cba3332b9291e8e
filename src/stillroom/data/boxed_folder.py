"""Boxed folder: recognise annotations in COCO, VOC or YOLO layout, and load both splits of the set.

Everything that is wrong with images or annotations is reported in one error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from stillroom.data.box_listing import BoxListing, CheckedObjects, checked_objects
from stillroom.data.boxed_source import BoxedSource
from stillroom.data.coco_json import class_difference, find_coco, list_coco
from stillroom.data.image_folder import from_files
from stillroom.data.image_sizes import image_sizes
from stillroom.data.problem_report import ProblemReport, check_broken
from stillroom.data.set_index import SetIndex, indexed
from stillroom.data.validation_split import held_out
from stillroom.data.voc_xml import find_voc, list_voc
from stillroom.data.yolo_text import find_yolo, list_yolo
from stillroom.errors import InputError
from stillroom.files import first_few, shown
from stillroom.formatting import counted

Layout = Literal["coco", "voc", "yolo"]


@dataclass(frozen=True, slots=True)
class BoxOptions:
    """How images with boxes are loaded.

    Attributes:
        image_size: the shorter side of a resized image in pixels.
        max_size: its longest side.
        val_fraction: in (0, 1); about this fraction is held out where the set has no validation split.
        seed: of that split.
        skip_broken: in [0, 1]; fraction of unreadable images, and of faulty objects, that may be left out.
        say: is told what takes time.
    """

    image_size: int
    max_size: int
    val_fraction: float = 0.1
    seed: int = 0
    skip_broken: float = 0.0
    say: Callable[[str], object] = lambda _: None


class BoxedSplits(NamedTuple):
    """Both splits; names of images that were skipped; and notes on the set."""

    train: BoxedSource
    val: BoxedSource
    broken: tuple[str, ...]
    notes: tuple[str, ...]


def layout_of(folder: Path) -> Layout | None:
    """Return the layout of a folder with boxes; None for any other folder. No annotation is read.

    Raises:
        InputError: there are several VOC folders below it.
    """
    try:
        if find_coco(folder) is not None:
            return "coco"
        if find_voc(folder) is not None:
            return "voc"
        return None if find_yolo(folder) is None else "yolo"
    except OSError as error:
        raise _closed(folder, error) from None


def load_boxed_folder(folder: Path, options: BoxOptions) -> BoxedSplits:
    """Load both splits of a folder in COCO, VOC or YOLO layout.

    Args:
        folder: the set.
        options: how to load it.

    Raises:
        InputError: the folder has none of the layouts, or cannot be used; the message names all problems.
    """
    try:
        train, val = _list(folder)
        listings = [train] if val is None else [train, val]
        report = ProblemReport(str(folder), [problem for one in listings for problem in one.problems])
        if val is not None:
            report.add(class_difference(train, val))
        for listing in listings:
            if not listing.names and not listing.problems:
                report.add(f"{shown(listing.where)} lists no images; add some")
            if not listing.classes and not listing.problems:
                report.add(f"{shown(listing.where)} has no classes; annotate some objects")
        splits = [_checked(folder, listing, report, options) for listing in listings]
    except OSError as error:
        raise _closed(folder, error) from None
    if len(splits) == 1 and not report.problems and len(splits[0].source) < 2:
        report.add(f"{shown(folder)} has one image, which cannot be split; add images")
    report.close()
    sources = [split.source for split in splits]
    if val is None:
        sources = _split(sources[0], options)
    notes = [note for listing in listings for note in listing.notes]
    notes += [note for split in splits for note in split.notes]
    notes += _unseen(sources)
    broken = tuple(name for split in splits for name in split.broken)
    return BoxedSplits(sources[0], sources[1], broken, tuple(dict.fromkeys(notes)))


def _list(folder: Path) -> tuple[BoxListing, BoxListing | None]:
    coco = find_coco(folder)
    if coco is not None:
        return list_coco(folder, *coco)
    voc = find_voc(folder)
    if voc is not None:
        return list_voc(folder, voc)
    yolo = find_yolo(folder)
    if yolo is not None:
        return list_yolo(folder, yolo)
    raise InputError(
        f"{shown(folder)} has no boxes in a known layout; give COCO (annotations/instances_train*.json), VOC "
        "(Annotations/ and JPEGImages/) or YOLO (images/train/ and labels/train/, with data.yaml)"
    )


class _Split(NamedTuple):
    source: BoxedSource
    broken: Sequence[str]
    notes: Sequence[str]


def _checked(folder: Path, listing: BoxListing, report: ProblemReport, options: BoxOptions) -> _Split:
    """Check images and objects of a split against each other, add what is wrong to the report, and make the source."""
    labels = [0] * len(listing.names)
    files = from_files(Path(listing.where), folder, listing.names, labels, ("",))
    index = indexed(files, say=options.say)
    sizes = image_sizes(folder, listing.names, index, say=options.say)
    usable = np.ones(len(labels), bool)
    usable[list(index.broken)] = False
    broken = [listing.names[place] for place in index.broken]
    with report.catching():
        check_broken(broken, len(labels), options.skip_broken, index.reasons)
    report.add(_other_sizes(listing, sizes, usable))
    found = checked_objects(listing, sizes, usable)
    total = len(listing.objects)
    if found.faulty > options.skip_broken * total:
        report.add(f"{found.problem}; correct them{_skip_hint(found.faulty, total)}")
    source = _source(listing, index, sizes, usable, found, options)
    return _Split(source, broken, _notes(listing, source, found))


def _skip_hint(faulty: int, total: int) -> str:
    return f", or leave them out with skip_broken={faulty / total + 0.00005:.4f}" if 2 * faulty <= total else ""


def _other_sizes(listing: BoxListing, sizes: NDArray[np.int64], usable: NDArray[np.bool_]) -> str:
    """Say which images have another size than their annotations say; empty if none."""
    said = listing.said
    if len(said) != len(sizes):
        return ""
    places = np.flatnonzero(usable & (said > 0).all(1) & (said != sizes).any(1))
    if not len(places):
        return ""
    some = [
        f"{shown(listing.names[place], 80)} (annotated as {said[place][1]}x{said[place][0]}, "
        f"is {sizes[place][1]}x{sizes[place][0]})"
        for place in places[:4].tolist()
    ]
    turned = bool((said[places][:, ::-1] == sizes[places]).all())
    fix = "apply the orientation in the metadata to the pixels, and remove it" if turned else "annotate the same files"
    more = [""] * (len(places) - len(some))
    return f"{counted(len(places), 'image')} of another size than annotated: {first_few([*some, *more])}; {fix}"


def _source(
    listing: BoxListing,
    index: SetIndex,
    sizes: NDArray[np.int64],
    usable: NDArray[np.bool_],
    found: CheckedObjects,
    options: BoxOptions,
) -> BoxedSource:
    places = torch.from_numpy(np.flatnonzero(usable))
    return BoxedSource(
        store=index.store,
        names=listing.names,
        places=places,
        ids=places,
        labels=torch.zeros_like(places),
        classes=listing.classes,
        digests=torch.from_numpy(index.digests)[places],
        sizes=torch.from_numpy(sizes)[places],
        objects=tuple(found.objects[place] for place in places.tolist()),
        image_size=options.image_size,
        max_size=options.max_size,
    )


def _notes(listing: BoxListing, source: BoxedSource, found: CheckedObjects) -> list[str]:
    where = shown(listing.where)
    empty = sum(not len(objects) for objects in source.objects)
    told = (
        (
            found.clipped,
            f"{counted(found.clipped, 'box')} of {where} clipped at the edge of the image (by at most 1 px)",
        ),
        (empty, f"{counted(empty, 'image')} of {where} without an object"),
        (found.faulty, f"left out: {found.problem}"),
    )
    return [note for count, note in told if count]


def _split(source: BoxedSource, options: BoxOptions) -> list[BoxedSource]:
    """Hold out images by their content."""
    labels, digests = source.labels.numpy(), source.digests.numpy()
    held = torch.from_numpy(held_out(labels, digests, options.val_fraction, options.seed))
    return [source.at((~held).nonzero().flatten()), source.at(held.nonzero().flatten())]


def _unseen(sources: Sequence[BoxedSource]) -> list[str]:
    """Say which classes have no object in a split."""
    notes = []
    for side, source in zip(("training", "validation"), sources, strict=True):
        counts = torch.bincount(source.object_labels(), minlength=len(source.classes))
        names = [name for name, count in zip(source.classes, counts.tolist(), strict=True) if not count]
        if names:
            notes.append(f"{counted(len(names), 'class')} without a {side} object: {first_few(names)}")
    return notes


def _closed(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"{shown(folder)} cannot be opened ({(error.strerror or type(error).__name__).lower()}); allow it"
    )
