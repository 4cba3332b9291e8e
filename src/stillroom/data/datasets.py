"""A name or a path becomes a set of training and validation images with its statistics."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stillroom.data.augment import Augment
from stillroom.data.channel_statistics import PUBLISHED, channel_statistics
from stillroom.data.cifar import load_cifar
from stillroom.data.decoding import Decoded, check_broken
from stillroom.data.glyphs import glyphs100
from stillroom.data.image_folder import list_image_folder
from stillroom.data.memory_limit import check_memory, copies_here
from stillroom.data.memory_loader import ImageSet
from stillroom.data.parquet import find_parquet, list_parquet
from stillroom.data.resize import resize_all
from stillroom.data.set_faults import Report
from stillroom.data.split_files import Listing
from stillroom.data.tiny_imagenet import is_tiny_imagenet, list_tiny_imagenet
from stillroom.errors import InputError, did_you_mean
from stillroom.files import first_few, shown
from stillroom.formatting import counted
from stillroom.suggestions import near


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """What a run trains and validates on.

    Attributes:
        name: the set's name, or its folder's.
        train: training images.
        val: validation images, with the same classes.
        mean: of each channel on [0, 1], over all training images, whatever was selected.
        std: of each channel on [0, 1].
        augment: the augmentation that suits the set; the published one where there is one.
        broken: paths or rows of images that were skipped.
        notes: what is good to know of the set before training on it.
        repeated: hashes of validation images that lie among the training images as well, before any selection.

    Raises:
        InputError: the splits differ in their classes or in the shape of their images, or mean and std do not fit.
    """

    name: str
    train: ImageSet
    val: ImageSet
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment
    broken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    repeated: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        shapes = [tuple(images.images.shape[1:]) for images in (self.train, self.val)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"training images are {shapes[0]} and validation images {shapes[1]} (channels, height, width); "
                "give both splits images of one shape"
            )
        if self.train.classes != self.val.classes:
            pairs = zip_longest(self.train.classes, self.val.classes)
            one, other = next(pair for pair in pairs if pair[0] != pair[1])
            raise InputError(
                f"classes of the training and the validation split differ ({one!r} and {other!r}); give both the same"
            )
        if not len(self.mean) == len(self.std) == shapes[0][0]:
            raise InputError(
                f"mean and std have {len(self.mean)} and {len(self.std)} values; give {shapes[0][0]}, one a channel"
            )


class SetDescription(NamedTuple):
    """One row of ``stillroom list data``.

    Attributes:
        name: what :func:`load_data` takes.
        classes: number of classes.
        size: side of the images in pixels.
        source: where the images come from and what that needs.
    """

    name: str
    classes: int
    size: int
    source: str


@dataclass(frozen=True, slots=True)
class _Options:
    root: Path
    image_size: int | None
    class_depth: int
    first_classes: int | None
    per_class: int | None
    val_fraction: float
    seed: int
    skip_broken: float
    download: bool
    copies: int


class _Loaded(NamedTuple):
    """Both splits, whole, with the names of what was left out and what is good to know."""

    train: ImageSet
    val: ImageSet
    broken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def load_data(
    name_or_path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = "data",
    image_size: int | None = None,
    class_depth: int = 1,
    first_classes: int | None = None,
    per_class: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    skip_broken: float = 0.0,
    download: bool = True,
    copies: int | None = None,
) -> DataSet:
    """Load a set into memory.

    Args:
        name_or_path: a name from :func:`describe_sets`, or a folder of images or Parquet files.
        root: where named sets lie or are downloaded to.
        image_size: side of the images; None takes their own, which must then be one.
        class_depth: >= 1; how many levels below the folder, or its splits, the class folders lie.
        first_classes: keep the first so many classes of both splits, >= 2.
        per_class: keep the first so many training images of each class, >= 1.
        val_fraction: in (0, 1); about this fraction is held out where the set has no validation split of its own, see
            :func:`stillroom.data.validation_split.held_out`.
        seed: >= 0; decides that split.
        skip_broken: in [0, 1]; share of unreadable images to put up with.
        download: whether a named set may be fetched.
        copies: how many processes of this machine are to hold the set at the same time; None asks torchrun.

    Returns:
        The set; ``per_class`` shortens only its training split.

    Raises:
        InputError: an unknown name, an argument outside its range, or a set that cannot be used; the message
            names everything that is wrong with it.
    """
    _check(image_size, val_fraction, seed, skip_broken)
    options = _Options(
        Path(root), image_size, class_depth, first_classes, per_class, val_fraction, seed, skip_broken, download,
        copies_here() if copies is None else copies,
    )  # fmt: skip
    known = _SETS.get(str(name_or_path))
    if class_depth < 1 or (class_depth > 1 and known is not None):
        raise InputError(f"class_depth is {class_depth}; give 1 or more, and more than 1 only for class folders")
    if known is not None:
        name = known.description.name
        loaded = known.load(options)
    else:
        folder = _existing_folder(name_or_path)
        name = folder.resolve().name
        loaded = _load_folder(folder, options)
    train, val = loaded.train, loaded.val
    mean, std = PUBLISHED.get(name if known else "") or channel_statistics(train.images)
    augment = known.augment if known else Augment(pad=max(1, min(train.images.shape[2:]) // 8))
    return DataSet(
        name=name,
        train=train.select(first_classes, per_class),
        val=val.select(first_classes),
        mean=mean,
        std=std,
        augment=augment,
        broken=loaded.broken,
        notes=loaded.notes,
        repeated=frozenset(np.intersect1d(train.content().numpy(), val.content().numpy()).tolist()),
    )


def describe_sets() -> tuple[SetDescription, ...]:
    """Return the sets that have a name."""
    return tuple(known.description for known in _SETS.values())


def _check(image_size: int | None, val_fraction: float, seed: int, skip_broken: float) -> None:
    if image_size is not None and image_size < 1:
        raise InputError(f"image_size is {image_size}; give a side of 1 pixel or more")
    if not 0 < val_fraction < 1:
        raise InputError(f"val_fraction is {val_fraction}; give a share between 0 and 1, such as 0.1")
    if seed < 0:
        raise InputError(f"seed is {seed}; give 0 or more")
    if not 0 <= skip_broken <= 1:
        raise InputError(f"skip_broken is {skip_broken}; give a share from 0 to 1, such as 0.01")


def _existing_folder(name_or_path: str | os.PathLike[str]) -> Path:
    given = shown(repr(str(name_or_path)))
    try:
        folder = Path(name_or_path).expanduser()
        if folder.is_dir():
            return folder
        if folder.is_file():
            raise InputError(f"data is {given}, a file; give the folder it lies in")
    except (OSError, RuntimeError) as error:  # too long, behind a closed folder, or of an unknown user
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"data is {given}, which cannot be opened ({reason}); give a folder") from None
    options = get_close_matches(str(name_or_path), _SETS, n=1)
    hint = did_you_mean(options) or near(folder, Path.is_dir)
    raise InputError(f"data is {given}, which is neither a folder nor one of {', '.join(_SETS)}{hint}")


def _load_folder(folder: Path, options: _Options) -> _Loaded:
    try:
        files = find_parquet(folder)
        if options.class_depth > 1 and (files is not None or is_tiny_imagenet(folder)):
            raise InputError(
                f"class_depth is {options.class_depth} but {shown(folder)} has no class folders; leave it out"
            )
        if files is not None:
            return _load_listings(folder, *list_parquet(*files), options=options)
        if is_tiny_imagenet(folder):
            return _load_listings(folder, *list_tiny_imagenet(folder), options=options)
        return _load_listings(folder, *list_image_folder(folder, options.class_depth), options=options)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError(f"{shown(folder)} cannot be opened ({reason}); allow it") from None


def _load_listings(folder: Path, train: Listing, val: Listing | None, *, options: _Options) -> _Loaded:
    """Decode both splits and report together what is wrong with them."""
    listings = [train] if val is None else [train, val]
    report = Report(str(folder), [complaint for listing in listings for complaint in listing.complaints])
    if val is None:
        report.add(train.too_small_to_split())
    with report.catching():
        _check_room(folder, listings, options)
        decoded: list[Decoded] = []
        for listing in listings:
            with report.catching():
                decoded.append(listing.decode(options.image_size))
            if len(decoded) < len(listings) and (not decoded or decoded[-1].complaint):
                break  # the other split would only say the same
        broken = _broken(listings, decoded, report, options.skip_broken)
    report.close()
    if val is None:
        sets = train.split(decoded[0], options.val_fraction, options.seed)
    else:
        sets = train.image_set(decoded[0]), val.image_set(decoded[1])
    _check_sets(train, sets)
    return _Loaded(*sets, broken, tuple(note for listing in listings for note in listing.notes))


def _check_room(folder: Path, listings: Sequence[Listing], options: _Options) -> None:
    """Refuse images that would not fit into memory, before the first is decoded."""
    size = next((size for listing in listings if (size := listing.size(options.image_size))), None)
    labels = [listing.labels for listing in listings]
    copied = math.ceil(options.val_fraction * len(labels[0])) if len(listings) == 1 else 0
    if size is not None:
        _refuse_too_many(labels, copied, (3, *size), str(folder), options)


def _refuse_too_many(
    labels: Sequence[NDArray[np.int64]], copied: int, shape: tuple[int, ...], where: str, options: _Options
) -> None:
    """Refuse images that would not fit, counting what is in memory twice while some of them are selected.

    Args:
        labels: of all images of the training split, and of the validation split where there is one.
        copied: how many are in memory twice for another reason.
        shape: channels, height and width of one.
        where: the set, for the message.
        options: how many classes and images of each are selected, and for how many processes.
    """
    count = sum(len(own) for own in labels)
    if options.first_classes is not None or options.per_class is not None:
        limits = (options.per_class, *[None] * (len(labels) - 1))
        copied += sum(
            int(np.minimum(np.bincount(own[own >= 0])[: options.first_classes], limit or len(own)).sum())
            for own, limit in zip(labels, limits, strict=True)
        )
    what = f"{count:,} images of {shown(where)} at {shape[2]}x{shape[1]} pixels"
    check_memory((count + copied) * math.prod(shape), what, options.copies)


def _broken(
    listings: Sequence[Listing], decoded: Sequence[Decoded], report: Report, skip_broken: float
) -> tuple[str, ...]:
    """Return the names of the broken images, and report them where they are too many."""
    names: list[str] = []
    reasons: list[str] = []
    for listing, images in zip(listings, decoded, strict=False):
        report.add(images.complaint)
        names += [shown(listing.names[place]) for place in images.broken]
        reasons += images.reasons
    with report.catching():
        check_broken(names, sum(len(listing.names) for listing in listings), skip_broken, reasons)
    return tuple(names)


def _check_sets(listing: Listing, sets: Sequence[ImageSet]) -> None:
    """Refuse splits without images, training classes of which none could be read, and sizes that differ."""
    for side, images in zip(("training", "validation"), sets, strict=True):
        if len(images) == 0:
            raise InputError(f"the {side} split of {listing.where} has no readable images; add some")
    lost = set(np.unique(listing.labels).tolist()) - set(sets[0].labels.tolist())
    if lost:
        names = first_few([listing.classes[label] for label in sorted(lost)])
        raise InputError(
            f"{counted(len(lost), 'class')} of {listing.where} without a readable training image: {names}; add some"
        )
    shapes = [f"{images.images.shape[3]}x{images.images.shape[2]}" for images in sets]
    if shapes[0] != shapes[1]:
        both = " and ".join(shapes)
        raise InputError(f"image_size is None but training and validation images differ ({both}); give image_size")


def _load_glyphs(options: _Options) -> _Loaded:
    return _resized("glyphs100", *glyphs100(), options)


def _load_cifar(kind: str, options: _Options) -> _Loaded:
    return _resized(kind, *load_cifar(kind, options.root, options.download), options)


def _resized(name: str, train: ImageSet, val: ImageSet, options: _Options) -> _Loaded:
    """Bring both splits to the size that is asked for, if any."""
    side, sets = options.image_size, (train, val)
    if side is None or side == train.images.shape[-1]:
        return _Loaded(train, val)
    shape = (train.images.shape[1], side, side)
    _refuse_too_many([images.labels.numpy() for images in sets], 0, shape, name, options)
    # Resized or not, an image is the same one.
    train, val = (replace(own, images=resize_all(own.images, side), digests=own.content()) for own in sets)
    return _Loaded(train, val)


def _load_tiny_imagenet(options: _Options) -> _Loaded:
    for folder in (options.root, options.root / "tiny-imagenet-200"):
        if is_tiny_imagenet(folder):
            return _load_listings(folder, *list_tiny_imagenet(folder), options=options)
    raise InputError(
        f"tiny-imagenet is not in {options.root}; "
        "unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip there, or set root to where it lies"
    )


@dataclass(frozen=True, slots=True)
class _Known:
    description: SetDescription
    augment: Augment
    load: Callable[[_Options], _Loaded]


_SETS = {
    known.description.name: known
    for known in (
        _Known(
            SetDescription("glyphs100", 100, 32, "drawn here in seconds, needs nothing"),
            Augment(pad=2, flip=False),  # mirrored characters are other characters
            _load_glyphs,
        ),
        _Known(
            SetDescription("cifar10", 10, 32, "downloaded, 170 MB"),
            Augment(),
            lambda options: _load_cifar("CIFAR10", options),
        ),
        _Known(
            SetDescription("cifar100", 100, 32, "downloaded, 169 MB"),
            Augment(),
            lambda options: _load_cifar("CIFAR100", options),
        ),
        _Known(
            SetDescription("tiny-imagenet", 200, 64, "unpack tiny-imagenet-200.zip from cs231n.stanford.edu in root"),
            Augment(pad=0, rotate=20),
            _load_tiny_imagenet,
        ),
    )
}
