"""Decode the training and the validation split into memory, and refuse what cannot be used."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillroom.data.decoding import Decoded
from stillroom.data.listing import Listing
from stillroom.data.memory_limit import check_memory
from stillroom.data.problem_report import ProblemReport, check_broken
from stillroom.data.resize import stored_side
from stillroom.data.source import Source
from stillroom.errors import InputError
from stillroom.files import first_few, shown
from stillroom.formatting import counted


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The arguments of :func:`stillroom.data.load_data`."""

    root: Path
    image_size: int | None
    view_size: int | None
    class_depth: int
    only_classes: tuple[str, ...] | None
    first_classes: int | None
    per_class: int | None
    val_fraction: float
    seed: int
    skip_broken: float
    download: bool
    copies: int
    labels: Literal["auto", "none"] = "auto"
    classes: tuple[str, ...] | None = None
    default_size: int | None = None
    source: Literal["auto", "memory", "files"] = "auto"
    crop_fraction: float | None = None
    scaled_decoding: bool = False
    max_size: int | None = None
    say: Callable[[str], object] = lambda _: None


class LoadedSplits(NamedTuple):
    """Both splits before any selection.

    Attributes:
        train: training images.
        val: validation images.
        broken: names of the images that were skipped.
        notes: warnings about the set.
    """

    train: Source
    val: Source
    broken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def load_splits(folder: Path, train: Listing, val: Listing | None, *, options: LoadOptions) -> LoadedSplits:
    """Decode both splits, or decode one and hold out its validation images.

    Args:
        folder: the set, for messages.
        train: the training images, or all images where ``val`` is None.
        val: the validation images.
        options: how to load them.

    Raises:
        InputError: the set cannot be used; the message names all problems.
    """
    listings = [train] if val is None else [train, val]
    report = ProblemReport(str(folder), [problem for listing in listings for problem in listing.problems])
    if val is None:
        report.add(train.too_small_to_split())
    side = side_of(listings, options)
    with report.catching():
        _check_listings(folder, listings, side, options)
        decoded: list[Decoded] = []
        for listing in listings:
            with report.catching():
                decoded.append(listing.decode(side))
                if decoded[-1].problem and options.image_size is None and options.default_size is not None:
                    return load_splits(folder, train, val, options=replace(options, image_size=options.default_size))
            if len(decoded) < len(listings) and (not decoded or decoded[-1].problem):
                break  # the other split would only report the same
        broken = _broken(listings, decoded, report, options.skip_broken)
    report.close()
    if val is None:
        sets = train.split(decoded[0], options.val_fraction, options.seed)
    else:
        sets = train.image_set(decoded[0]), val.image_set(decoded[1])
    check_sets(train, sets)
    return LoadedSplits(*sets, broken, tuple(note for listing in listings for note in listing.notes))


def larger_than_default(listings: Sequence[Listing], options: LoadOptions) -> bool:
    """Whether images without an image size have more pixels than the default size."""
    if options.image_size is not None or options.default_size is None:
        return False
    own = next((size for listing in listings if (size := listing.size(None))), None)
    return own is not None and math.prod(own) > options.default_size**2


def _check_listings(folder: Path, listings: Sequence[Listing], side: int | None, options: LoadOptions) -> None:
    """Refuse images that do not fit into memory, before the first is decoded."""
    size = next((size for listing in listings if (size := listing.size(side))), None)
    if size is not None:
        check_room([listing.labels for listing in listings], (3, *size), str(folder), options)


def side_of(listings: Sequence[Listing], options: LoadOptions) -> int | None:
    """The side of the stored images."""
    if options.view_size is None:
        return options.image_size
    own = next((size for listing in listings if (size := listing.size(None))), None)
    return stored_side(options.image_size, options.view_size, own)


def check_room(labels: Sequence[NDArray[np.int64]], shape: tuple[int, ...], where: str, options: LoadOptions) -> None:
    """Refuse images that do not fit into memory.

    Args:
        labels: of all images of the training split, and of the validation split where there is one.
        shape: channels, height and width of an image.
        where: the set, for the message.
        options: which classes and images are selected, and by how many processes.

    Raises:
        InputError: more memory is needed than is free.
    """
    count = sum(len(own) for own in labels)
    what = f"{count:,} images of {shown(where)} at {shape[2]}x{shape[1]} pixels"
    check_memory(bytes_needed(labels, shape, options), what, options.copies)


def bytes_needed(labels: Sequence[NDArray[np.int64]], shape: tuple[int, ...], options: LoadOptions) -> int:
    """Return the peak of bytes that the images take in memory.

    Images that are held out or selected count twice: they are copied.

    Args:
        labels: of all images of the training split, and of the validation split where there is one.
        shape: channels, height and width of an image.
        options: which classes and images are selected.
    """
    count = sum(len(own) for own in labels)
    if len(labels) == 1:
        count += math.ceil(options.val_fraction * len(labels[0]))
    if options.only_classes is not None:
        count *= 2  # the classes are not known yet: at most all images are copied
    elif options.first_classes is not None or options.per_class is not None:
        limits = (options.per_class, *[None] * (len(labels) - 1))
        count += sum(
            int(np.minimum(np.bincount(own[own >= 0])[: options.first_classes], limit or len(own)).sum())
            for own, limit in zip(labels, limits, strict=True)
        )
    return count * math.prod(shape)


def _broken(
    listings: Sequence[Listing], decoded: Sequence[Decoded], report: ProblemReport, skip_broken: float
) -> tuple[str, ...]:
    """Return the names of the broken images, and report them if there are too many."""
    names: list[str] = []
    reasons: list[str] = []
    for listing, images in zip(listings, decoded, strict=False):
        report.add(images.problem)
        names += [shown(listing.names[place]) for place in images.broken]
        reasons += images.reasons
    with report.catching():
        check_broken(names, sum(len(listing.names) for listing in listings), skip_broken, reasons)
    return tuple(names)


def check_sets(listing: Listing, sets: Sequence[Source]) -> None:
    """Refuse empty splits, classes without a readable training image, and sizes that differ."""
    for side, images in zip(("training", "validation"), sets, strict=True):
        if len(images) == 0:
            raise InputError(f"the {side} split of {listing.where} has no readable images; add some")
    lost = set(np.unique(listing.labels[listing.labels >= 0]).tolist()) - set(sets[0].labels.tolist())
    if lost:
        names = first_few([listing.classes[label] for label in sorted(lost)])
        raise InputError(
            f"{counted(len(lost), 'class')} of {listing.where} without a readable training image: {names}; add some"
        )
    shapes = [f"{images.shape[2]}x{images.shape[1]}" for images in sets]
    if shapes[0] != shapes[1]:
        both = " and ".join(shapes)
        raise InputError(f"image_size is None but training and validation images differ ({both}); give image_size")
