"""Box listing: the images of one split and their annotated objects, as a reader of annotations found them."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from stillroom.boxes import ImageBoxes
from stillroom.files import first_few, shown
from stillroom.formatting import counted

Item = TypeVar("Item")
Result = TypeVar("Result")

OVERHANG = 1.0  # pixels by which a box may leave its image; it is clipped
_GROUP = 64  # files that a thread reads in one go
_ROUNDING = 1e-3  # pixels: fractions of a side are written with few digits


class Objects:
    """The objects of a split while its annotations are read, as compact arrays.

    Attributes:
        owners: the index of the image of each object.
        edges: left, top, right and bottom of each object, one after another.
        labels: of the objects.
        crowd: 1 for a group of objects.
        numbers: how messages refer to each object within its image or file.
    """

    def __init__(self) -> None:
        self.owners, self.labels, self.numbers = array("q"), array("q"), array("q")
        self.edges, self.crowd = array("d"), array("b")

    def add(self, owner: int, edges: Sequence[float], label: int, crowd: bool, number: int) -> None:
        """Add an object."""
        self.owners.append(owner)
        self.edges.extend(edges)
        self.labels.append(label)
        self.crowd.append(crowd)
        self.numbers.append(number)

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.owners)


@dataclass(frozen=True, slots=True, eq=False)
class BoxListing:
    """The images of one split with their objects.

    Attributes:
        where: the file or folder of the annotations, for messages.
        names: the images, relative to the folder of the set, each once.
        classes: the names of the classes.
        objects: the objects of all images.
        numbered: what :attr:`Objects.numbers` counts: "annotation", "object" or "line".
        relative: whether edges are fractions of the image's width and height; otherwise pixels.
        said: int64 array (n, 2), height and width of each image by its annotations; 0 where they do not say it.
        problems: problems found so far; with any, the split cannot be used.
        notes: what the user should know.
    """

    where: str
    names: Sequence[str]
    classes: tuple[str, ...]
    objects: Objects
    numbered: str
    relative: bool = False
    said: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def with_problems(self, *problems: str) -> BoxListing:
        """Return the listing with more problems; empty ones are ignored."""
        return replace(self, problems=(*self.problems, *filter(None, problems)))


class CheckedObjects(NamedTuple):
    """What :func:`checked_objects` found.

    Attributes:
        objects: of each image, without the faulty ones.
        problem: what is wrong with faulty ones; empty without any.
        faulty: their number.
        clipped: number of boxes that were cut at the edge of their image.
    """

    objects: tuple[ImageBoxes, ...]
    problem: str
    faulty: int
    clipped: int


def checked_objects(listing: BoxListing, sizes: NDArray[np.int64], usable: NDArray[np.bool_]) -> CheckedObjects:
    """Check the box of each object against its image, and group the objects by image.

    A box that leaves its image by at most one pixel is clipped: annotations are rounded.

    Args:
        listing: the split.
        sizes: (n, 2), height and width of each image.
        usable: (n,), whether an image can be read; objects of others are not checked.
    """
    owners = np.frombuffer(listing.objects.owners, np.int64)
    boxes = np.frombuffer(listing.objects.edges, np.float64).reshape(-1, 4)
    limits = sizes[owners][:, [1, 0, 1, 0]].astype(np.float64)
    if listing.relative:
        boxes = boxes * limits
    inside = boxes.clip(0, limits)
    used, finite = usable[owners], np.asarray(np.isfinite(boxes).all(1))
    with np.errstate(invalid="ignore"):
        over = np.where(finite[:, None], np.abs(boxes - inside), 0).max(1, initial=0)
        narrow = ~np.asarray((inside[:, 2:] > inside[:, :2]).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1))
    outside = finite & used & (over > OVERHANG + _ROUNDING)
    kinds: tuple[tuple[NDArray[np.bool_], str], ...] = (
        (used & ~finite, "with a box that is not four finite numbers"),
        (outside, "with a box outside of its image"),
        (used & finite & ~outside & narrow, "with a box without area"),
    )
    faulty = np.logical_or.reduce([chosen for chosen, _ in kinds])
    told = [
        f"{counted(int(chosen.sum()), 'object')} {what}: "
        + first_few(_Described(listing, np.flatnonzero(chosen), boxes, sizes))
        for chosen, what in kinds
        if chosen.any()
    ]
    kept = np.flatnonzero(~faulty & used)
    clipped = int((over[kept] > _ROUNDING).sum())
    objects = _by_image(listing, kept, inside.astype(np.float32), sizes)
    return CheckedObjects(objects, "; ".join(told), int(faulty.sum()), clipped)


class _Described(Sequence[str]):
    """Descriptions of objects, made when they are shown: there can be a million faulty ones."""

    def __init__(
        self, listing: BoxListing, places: NDArray[np.int64], boxes: NDArray[np.float64], sizes: NDArray[np.int64]
    ) -> None:
        self._listing, self._places, self._boxes, self._sizes = listing, places, boxes, sizes

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int | slice) -> str | list[str]:  # type: ignore[override]
        if isinstance(index, slice):
            return [self._one(place) for place in self._places[index].tolist()]
        return self._one(int(self._places[index]))

    def _one(self, place: int) -> str:
        objects, owner = self._listing.objects, self._listing.objects.owners[place]
        left, top, right, bottom = (f"{edge:.6g}" for edge in self._boxes[place])
        height, width = self._sizes[owner]
        number = f"{self._listing.numbered} {objects.numbers[place]}"
        name = shown(self._listing.names[owner], 80)
        return f"{name} {number} (x {left} to {right}, y {top} to {bottom}, image {width}x{height})"


def _by_image(
    listing: BoxListing, kept: NDArray[np.int64], boxes: NDArray[np.float32], sizes: NDArray[np.int64]
) -> tuple[ImageBoxes, ...]:
    """Group objects by image, in the order of the annotations."""
    owners = np.frombuffer(listing.objects.owners, np.int64)[kept]
    kept = kept[np.argsort(owners, kind="stable")]
    counts = np.bincount(owners, minlength=len(listing.names)).tolist()
    labels = np.frombuffer(listing.objects.labels, np.int64)[kept]
    crowd = np.frombuffer(listing.objects.crowd, np.int8)[kept].astype(bool)
    edges, classes, groups = (
        torch.from_numpy(values).split_with_sizes(counts) for values in (boxes[kept], labels, crowd)
    )
    return tuple(
        ImageBoxes(own, of_own, grouped, (height, width))
        for own, of_own, grouped, (height, width) in zip(edges, classes, groups, sizes.tolist(), strict=True)
    )


def finite_edges(values: object, count: int = 4) -> tuple[float, ...] | None:
    """Return ``count`` numbers of a list as floats; None if it is anything else. NaN and infinity are kept."""
    if not isinstance(values, list) or len(values) != count:
        return None
    try:
        return tuple(float(value) if isinstance(value, int | float) else math.nan for value in values)
    except OverflowError:  # a whole number of hundreds of digits
        return None


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Call a function that waits for files on each item, in threads; results are in order."""

    def group(chunk: Sequence[Item]) -> list[Result]:
        return [function(item) for item in chunk]

    iterator = iter(items)
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for results in pool.map(group, iter(lambda: list(islice(iterator, _GROUP)), [])):
            yield from results
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest


def told(names: Sequence[str], what: str, rest: str, fix: str) -> str:
    """Return a message like "2 images without a file: a, b; add them"; empty without names."""
    return f"{counted(len(names), what)} {rest}: {first_few(names)}; {fix}" if names else ""
