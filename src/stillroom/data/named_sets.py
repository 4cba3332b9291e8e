"""Data sets that have a name: Glyphs-100, CIFAR, STL-10, Tiny-ImageNet, ImageNet, fine-grained sets, scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from stillroom.data.augment import Augment
from stillroom.data.cifar import load_cifar
from stillroom.data.fine_grained_sets import list_fine_grained
from stillroom.data.glyphs import glyphs100
from stillroom.data.image_set import ImageSet
from stillroom.data.imagenet_layout import has_synsets
from stillroom.data.list_folder import list_folder
from stillroom.data.load_splits import LoadedSplits, LoadOptions, check_room
from stillroom.data.resize import resize_all, stored_side
from stillroom.data.source_choice import load_listings
from stillroom.data.stl10 import load_stl10
from stillroom.data.tiny_imagenet import is_tiny_imagenet, list_tiny_imagenet
from stillroom.errors import InputError

IMAGENET_SIZE = 224


class SetDescription(NamedTuple):
    """One row of ``stillroom list data``.

    Attributes:
        name: as :func:`stillroom.data.load_data` takes it.
        classes: number of classes.
        size: side of the images in pixels; of sets whose images differ in size, that of the batches.
        source: where the images come from, and what is needed for it.
    """

    name: str
    classes: int
    size: int
    source: str


def describe_sets() -> tuple[SetDescription, ...]:
    """Return one row for each named set; the last one has boxes."""
    return (*(known.description for known in NAMED_SETS.values()), SCENES)


def _in_memory(name: str, options: LoadOptions) -> None:
    """Refuse settings for images in files, for a set that is made or read as a whole."""
    if options.source == "files" or options.crop_fraction not in (None, 1.0) or options.scaled_decoding:
        raise InputError(
            f"{name} is held in memory; leave out source=files, crop_fraction and scaled_decoding, which need files"
        )


def _load_glyphs(options: LoadOptions) -> LoadedSplits:
    _in_memory("glyphs100", options)
    return _resized("glyphs100", *glyphs100(), options)


def _load_cifar(kind: str, options: LoadOptions) -> LoadedSplits:
    _in_memory(kind, options)
    return _resized(kind, *load_cifar(kind, options.root, options.download), options)


def _load_stl10(options: LoadOptions) -> LoadedSplits:
    _in_memory("stl10", options)
    return _resized("stl10", *load_stl10(options.root, options.download), options)


def _resized(name: str, train: ImageSet, val: ImageSet, options: LoadOptions) -> LoadedSplits:
    """Resize both splits to ``image_size`` where it is given."""
    height, width = train.images.shape[2:]
    side = stored_side(options.image_size, options.view_size, (height, width))
    if side is None or side == train.images.shape[-1]:
        return LoadedSplits(train, val)
    shape = (train.images.shape[1], side, side)
    check_room([split.labels.numpy() for split in (train, val)], shape, name, options)
    # An image keeps its hash when it is resized.
    train, val = (
        replace(split, images=resize_all(split.images, side), digests=split.content()) for split in (train, val)
    )
    return LoadedSplits(train, val)


def _load_tiny_imagenet(options: LoadOptions) -> LoadedSplits:
    for folder in (options.root, options.root / "tiny-imagenet-200"):
        if is_tiny_imagenet(folder):
            return load_listings(folder, *list_tiny_imagenet(folder), options=options)
    raise InputError(
        f"tiny-imagenet is not in {options.root}; "
        "unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip there, or set root to the folder that has it"
    )


def _load_imagenet(options: LoadOptions) -> LoadedSplits:
    below = options.root / "imagenet"
    folder = below if below.is_dir() else options.root
    if folder == options.root and not has_synsets(folder):
        raise InputError(
            f"imagenet is neither in {below} nor in {options.root}, and needs a licence to download: get ILSVRC2012 "
            "from https://image-net.org or Kaggle's imagenet-object-localization-challenge, unpack it as train/SYNSET/ "
            f"and val/ in {below} (docs/data.md has the layouts), or give its folder, data=FOLDER"
        )
    listings = list_folder(folder, labels=options.labels, classes=options.classes)
    options = replace(options, default_size=options.default_size or IMAGENET_SIZE)
    return load_listings(folder, *listings, options=options)


def _load_fine_grained(name: str, options: LoadOptions) -> LoadedSplits:
    folder, train, val = list_fine_grained(name, options.root, options.download)
    # Random crops are taken from the whole image, so the images are decoded on demand unless memory is asked for.
    source = "files" if options.source == "auto" else options.source
    size = options.image_size or options.default_size or IMAGENET_SIZE
    return load_listings(folder, train, val, options=replace(options, image_size=size, source=source))


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A named set.

    Attributes:
        description: its row of ``stillroom list data``.
        augment: the augmentation that suits it.
        load: loads both splits.
        has_files: whether its images are in files, one each, so that they can be decoded on demand.
    """

    description: SetDescription
    augment: Augment
    load: Callable[[LoadOptions], LoadedSplits]
    has_files: bool = False


# The sets of images with a label each; scenes are loaded by stillroom.data.load_boxed.
NAMED_SETS = {
    known.description.name: known
    for known in (
        NamedSet(
            SetDescription("glyphs100", 100, 32, "drawn here in seconds, needs no download"),
            Augment(pad=2, flip=False),  # a mirrored character is another character
            _load_glyphs,
        ),
        NamedSet(
            SetDescription("cifar10", 10, 32, "downloaded, 170 MB"),
            Augment(),
            lambda options: _load_cifar("CIFAR10", options),
        ),
        NamedSet(
            SetDescription("cifar100", 100, 32, "downloaded, 169 MB"),
            Augment(),
            lambda options: _load_cifar("CIFAR100", options),
        ),
        NamedSet(
            SetDescription("stl10", 10, 96, "downloaded, 2.6 GB; 5,000 training images"),
            Augment(pad=12),
            _load_stl10,
        ),
        NamedSet(
            SetDescription("tiny-imagenet", 200, 64, "unpack tiny-imagenet-200.zip from cs231n.stanford.edu in root"),
            Augment(pad=0, rotate=20),
            _load_tiny_imagenet,
            has_files=True,
        ),
        NamedSet(
            SetDescription(
                "imagenet", 1000, IMAGENET_SIZE, "unpack ILSVRC2012 from image-net.org or Kaggle in root/imagenet"
            ),
            Augment(pad=0, min_scale=0.08),
            _load_imagenet,
            has_files=True,
        ),
        *(
            NamedSet(
                SetDescription(name, classes, IMAGENET_SIZE, source),
                Augment(pad=0, min_scale=0.08),
                partial(_load_fine_grained, name),
                has_files=True,
            )
            for name, classes, source in (
                ("cub200", 200, "unpack CUB_200_2011.tgz from data.caltech.edu in root"),
                (
                    "stanford-dogs",
                    120,
                    "unpack images.tar and lists.tar from vision.stanford.edu in root/stanford-dogs",
                ),
                ("stanford-cars", 196, "put a copy in root/stanford_cars, its site is gone"),
                ("fgvc-aircraft", 100, "downloaded, 2.8 GB"),
                ("flowers102", 102, "downloaded, 350 MB"),
                ("food101", 101, "downloaded, 5 GB"),
                ("oxford-pets", 37, "downloaded, 800 MB"),
            )
        ),
    )
}

SCENES = SetDescription("scenes", 16, 128, "for object detection; drawn here in seconds, needs no download")
