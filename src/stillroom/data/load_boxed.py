"""Load a data set with boxes: a folder in COCO, VOC or YOLO layout, or the drawn scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from stillroom.data.augment import Augment
from stillroom.data.boxed_folder import BoxedSplits, BoxOptions, layout_of, load_boxed_folder
from stillroom.data.boxed_source import default_max_size
from stillroom.data.channel_statistics import PUBLISHED
from stillroom.data.dataset import DataSet
from stillroom.data.scene_drawing import NATURAL_SIDE
from stillroom.data.scenes import NAME, scene_count, scenes, validation_count
from stillroom.errors import InputError

IMAGE_SIZE = 800  # of published detectors


def holds_boxes(name_or_folder: str | Path) -> bool:
    """Whether :func:`load_boxed` loads a name or a folder: "scenes", "scenes:N", or a folder of a known layout.

    Raises:
        InputError: the number after "scenes:" is none, or a folder has several sets.
    """
    if scene_count(str(name_or_folder)) is not None:
        return True
    try:
        folder = Path(name_or_folder).expanduser()
        if not folder.is_dir():
            return False
    except (OSError, RuntimeError):  # name too long, no permission, or unknown user: load_data says so
        return False
    return layout_of(folder) is not None


def load_boxed(
    name_or_folder: str | Path,
    *,
    image_size: int | None = None,
    max_size: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    skip_broken: float = 0.0,
    say: Callable[[str], object] = lambda _: None,
) -> DataSet:
    """Load training and validation images with their boxes.

    Args:
        name_or_folder: a folder for which :func:`stillroom.data.boxed_folder.layout_of` returns a layout; "scenes"; or
            "scenes:N" for N training scenes and N / 5 validation scenes.
        image_size: the shorter side of a resized image in pixels; None: 800, and 128 for scenes, which are drawn at
            this size.
        max_size: its longest side; None: 5/3 of ``image_size``.
        val_fraction: in (0, 1); about this fraction of the images is held out where the set has no validation split of
            its own, see :func:`stillroom.data.validation_split.held_out`.
        seed: >= 0; seed of that split.
        skip_broken: in [0, 1]; fraction of unreadable images, and of faulty objects, to leave out.
        say: told how far a first look at many files is.

    Returns:
        The set, whose splits are :class:`stillroom.data.boxed_source.BoxedSource`. Mean and standard deviation are
        ImageNet's, as detectors take them. The augmentation is a flip.

    Raises:
        InputError: an argument is outside its range, or the set cannot be used; the message names all problems.
    """
    count = scene_count(str(name_or_folder))
    side = (IMAGE_SIZE if count is None else NATURAL_SIDE) if image_size is None else image_size
    longest = default_max_size(side) if max_size is None else max_size
    if side < 1 or longest < side:
        raise InputError(f"image_size is {side} and max_size {longest}; give max_size of at least image_size")
    if count is None:
        folder = Path(name_or_folder).expanduser()
        name = folder.resolve().name
        splits = load_boxed_folder(folder, BoxOptions(side, longest, val_fraction, seed, skip_broken, say))
    else:
        name = NAME
        train, val = (replace(split, max_size=longest) for split in scenes(0, count, validation_count(count), side))
        splits = BoxedSplits(train, val, (), ())
    mean, std = PUBLISHED["imagenet"]
    return DataSet(
        name=name,
        train=splits.train,
        val=splits.val,
        mean=mean,
        std=std,
        augment=Augment(pad=0, flip=True),
        broken=splits.broken,
        notes=splits.notes,
        repeated=frozenset(np.intersect1d(splits.train.content().numpy(), splits.val.content().numpy()).tolist()),
    )
