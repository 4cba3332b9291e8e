"""Load a data set into memory by its name or its folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import numpy as np

from stillroom.data.augment import Augment
from stillroom.data.channel_statistics import PUBLISHED, measured_statistics
from stillroom.data.class_groups import chosen_classes
from stillroom.data.dataset import DataSet
from stillroom.data.fixed_size_source import FixedSizeSource
from stillroom.data.list_folder import list_folder
from stillroom.data.load_boxed import holds_boxes, load_boxed
from stillroom.data.load_splits import LoadedSplits, LoadOptions
from stillroom.data.memory_limit import copies_here
from stillroom.data.named_sets import NAMED_SETS
from stillroom.data.source_choice import load_listings
from stillroom.errors import InputError, did_you_mean
from stillroom.files import shown
from stillroom.suggestions import suggest_path

Task = Literal["auto", "classification", "detection"]


def load_data(
    name_or_path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = "data",
    image_size: int | None = None,
    view_size: int | None = None,
    class_depth: int = 1,
    only_classes: Sequence[str] | None = None,
    first_classes: int | None = None,
    per_class: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    skip_broken: float = 0.0,
    download: bool = True,
    copies: int | None = None,
    labels: Literal["auto", "none"] = "auto",
    classes: Sequence[str] | None = None,
    default_size: int | None = None,
    source: Literal["auto", "memory", "files"] = "auto",
    crop_fraction: float | None = None,
    scaled_decoding: bool = False,
    task: Task = "auto",
    max_size: int | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> DataSet:
    """Load a data set into memory.

    Args:
        name_or_path: a name from :func:`describe_sets`, or a folder of images or Parquet files.
        root: the folder where named sets are, or are downloaded to.
        image_size: side of the images in pixels; None keeps their own size, which must be the same for all.
        view_size: side in pixels at which images are stored and augmented, where a teacher takes them larger than
            ``image_size``; at most their own size. None: ``image_size``.
        class_depth: >= 1; how many levels below the folder, or below its splits, the class folders are.
        only_classes: keep only these classes of both splits, in the order of the set: names of classes, their WordNet
            ids, or groups, see :func:`stillroom.data.class_groups.chosen_classes`; two classes or more.
        first_classes: keep only this many classes of both splits, the first ones of those; >= 2.
        per_class: keep only this many training images of each class, the first ones; >= 1.
        val_fraction: in (0, 1); about this fraction is held out where the set has no validation split of its own, see
            :func:`stillroom.data.validation_split.held_out`.
        seed: >= 0; seed of that split.
        skip_broken: in [0, 1]; fraction of unreadable images to tolerate and skip.
        download: whether a named set may be downloaded.
        copies: number of processes on this machine that hold the set at the same time; None reads it from torchrun.
        labels: "none" takes every training image without its label; of a folder, also images that are not in class
            folders. Validation images keep their labels, except those held out of a folder of images. "auto" takes
            labels from where they are.
        classes: the names of the classes where neither training nor validation images have labels.
        default_size: side of the images of a folder where ``image_size`` is None and they differ in size or have more
            pixels than that.
        source: where the images are: "memory" decodes all of them now; "files" decodes them when they are needed;
            "auto" takes files where the memory does not suffice, or where another argument requires them.
        crop_fraction: in (0, 1]; of images from files, validation shows the centre: the shorter side is resized to
            ``image_size / crop_fraction`` and a square of ``image_size`` is cut out. None: 1.
        scaled_decoding: decode JPEG files at 1/2, 1/4 or 1/8 where a random crop of the whole image keeps the size.
        task: "detection" takes images with boxes, "classification" images with one class each; "auto" is detection for
            the scenes and for a folder in COCO, VOC or YOLO layout.
        max_size: for object detection, the longest side of an image in pixels, at least ``image_size``; None: 5/3 of
            ``image_size``.
        say: told how far a first look at many files is.

    Returns:
        The set; ``per_class`` shortens only its training split.

    Raises:
        InputError: an unknown name, an argument outside its range, or a set that cannot be used; the message
            names all problems of the set.
    """
    _check(image_size, val_fraction, seed, skip_broken)
    _check_view(image_size, view_size)
    if max_size is not None and image_size is not None and max_size < image_size:
        raise InputError(f"max_size is {max_size}; give at least image_size, which is {image_size}")
    options = LoadOptions(
        Path(root), image_size, view_size, class_depth, None if only_classes is None else tuple(only_classes),
        first_classes, per_class, val_fraction, seed, skip_broken, download,
        copies_here() if copies is None else copies, labels, None if classes is None else tuple(classes),
        default_size, source, crop_fraction, scaled_decoding, max_size, say,
    )  # fmt: skip
    if what_is_learned(name_or_path, task) == "detection":
        _refuse_without_boxes(options)
        return load_boxed(
            os.fspath(name_or_path), image_size=image_size, max_size=max_size, val_fraction=val_fraction, seed=seed,
            skip_broken=skip_broken, say=say,
        )  # fmt: skip
    return _load_labelled(name_or_path, options)


def _load_labelled(name_or_path: str | os.PathLike[str], options: LoadOptions) -> DataSet:
    """Load a set whose images have a class each, or none."""
    known, class_depth = NAMED_SETS.get(str(name_or_path)), options.class_depth
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
    if options.max_size is not None and isinstance(train, FixedSizeSource):
        raise InputError(
            f"max_size is {options.max_size}, which is for object detection, and data has no boxes; leave it out"
        )
    mean, std = PUBLISHED.get(name if known else "") or measured_statistics(train)
    augment = known.augment if known else Augment(pad=max(1, min(train.shape[1:]) // 8))
    if options.only_classes is not None:
        chosen = chosen_classes(options.only_classes, train.classes)
        train, val = train.of_classes(chosen), val.of_classes(chosen)
    selected, side = train.select(options.first_classes, options.per_class), options.image_size
    return DataSet(
        name=name,
        train=selected.without_labels() if options.labels == "none" else selected,
        val=val.select(options.first_classes),
        mean=mean,
        std=std,
        augment=augment,
        broken=loaded.broken,
        notes=loaded.notes,
        input_size=None if side is None or side == train.shape[-1] else (side, side),
        repeated=frozenset(np.intersect1d(train.content().numpy(), val.content().numpy()).tolist()),
    )


def what_is_learned(
    name_or_path: str | os.PathLike[str], task: Task = "auto"
) -> Literal["classification", "detection"]:
    """Return what is learned from a data set: "classification" or "detection".

    Args:
        name_or_path: as for :func:`load_data`.
        task: as for :func:`load_data`; anything but "auto" is returned.
    """
    if task != "auto":
        return task
    return "detection" if holds_boxes(os.fspath(name_or_path)) else "classification"


def _refuse_without_boxes(options: LoadOptions) -> None:
    """Refuse arguments that images with boxes do not have."""
    usual: dict[str, object] = {
        "view_size": None, "class_depth": 1, "only_classes": None, "first_classes": None, "per_class": None,
        "labels": "auto", "crop_fraction": None, "scaled_decoding": False,
    }  # fmt: skip
    for name, value in usual.items():
        found = getattr(options, name)
        if found != value:
            raise InputError(f"{name}={found}: this setting is for classification; leave it out for images with boxes")
    if options.source == "memory":
        raise InputError("source=memory: images with boxes are decoded when they are needed; leave source out")


def _check_view(image_size: int | None, view_size: int | None) -> None:
    if view_size is None:
        return
    if image_size is None:
        raise InputError(f"view_size is {view_size} without image_size; give image_size, the side for the student")
    if view_size < image_size:
        raise InputError(f"view_size is {view_size}; give at least image_size, which is {image_size}")


def _check(image_size: int | None, val_fraction: float, seed: int, skip_broken: float) -> None:
    if image_size is not None and image_size < 1:
        raise InputError(f"image_size is {image_size}; give a side of 1 pixel or more")
    if not 0 < val_fraction < 1:
        raise InputError(f"val_fraction is {val_fraction}; give a fraction between 0 and 1, such as 0.1")
    if seed < 0:
        raise InputError(f"seed is {seed}; give 0 or more")
    if not 0 <= skip_broken <= 1:
        raise InputError(f"skip_broken is {skip_broken}; give a fraction from 0 to 1, such as 0.01")


def _existing_folder(name_or_path: str | os.PathLike[str]) -> Path:
    given = shown(repr(str(name_or_path)))
    try:
        folder = Path(name_or_path).expanduser()
        if folder.is_dir():
            return folder
        if folder.is_file():
            raise InputError(f"data is {given}, a file; give its folder")
    except (OSError, RuntimeError) as error:  # name too long, no permission, or unknown user
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"data is {given}, which cannot be opened ({reason}); give a folder") from None
    options = get_close_matches(str(name_or_path), NAMED_SETS, n=1)
    hint = did_you_mean(options) or suggest_path(folder, Path.is_dir)
    raise InputError(f"data is {given}, which is neither a folder nor one of {', '.join(NAMED_SETS)}{hint}")


def _load_folder(folder: Path, options: LoadOptions) -> LoadedSplits:
    listings = list_folder(folder, options.class_depth, labels=options.labels, classes=options.classes)
    try:
        return load_listings(folder, *listings, options=options)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError(f"{shown(folder)} cannot be opened ({reason}); allow it") from None
