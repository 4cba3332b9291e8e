"""The settings of the images: where they come from, their size, and their augmentation.

Nothing here imports PyTorch: ``stillroom --help`` must not wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillroom.settings import described, setting


@described
@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The images, and how the models see them."""

    data: str = setting(
        "a name from `stillroom list data`, or a folder (class folders, train/ and val/, or Parquet files)", path=True
    )
    root: str = setting("folder in which named data sets are stored or downloaded", "data", path=True)
    task: Literal["auto", "classification", "detection"] = setting(
        "what is learned: classification, one class for each image, or detection, boxes with classes. auto takes "
        "detection for a folder in COCO, VOC or YOLO layout and for scenes",
        "auto")  # fmt: skip
    image_size: int | None = setting(
        "side in pixels to resize to; required when the images differ in size. Default: the size of the run that the "
        "teacher (or the trained model) comes from",
        None, at_least=8, unit="pixels")  # fmt: skip
    view_size: int | None = setting(
        "side in pixels at which images are stored and augmented before each network takes them at its own size; at "
        "most their own size. Default: the larger of image_size and the teacher's size, where image_size is known",
        None, at_least=8, unit="pixels")  # fmt: skip
    max_size: int | None = setting(
        "for object detection only, the longest side in pixels: an image whose shorter side has image_size and whose "
        "longer side would exceed it becomes smaller. Default: 5/3 of image_size",
        None, at_least=8, unit="pixels")  # fmt: skip
    class_depth: int = setting(
        "folder levels from the data set, or its splits, down to the class folders: 2 for alphabet/character/image",
        1, at_least=1)  # fmt: skip
    only_classes: list[str] | None = setting(
        "use only these classes, in the order of the set: names of classes, their WordNet ids, or groups of close "
        "classes of ImageNet and Tiny-ImageNet, such as [dog] or [feline, insect]", None)  # fmt: skip
    first_classes: int | None = setting("use only the first k classes, for quick work", None, at_least=2)
    per_class: int | None = setting("use only the first n training images of a class, for quick work", None, at_least=1)
    val_fraction: float = setting(
        "fraction of the images held out for validation when the folder has no split of its own",
        0.1, above=0, below=1)  # fmt: skip
    hold_out: float | None = setting(
        "fraction of the training images of each class that take the place of the validation images, which the run "
        "then never sees; `stillroom tune` trains its trials so, with 0.1 where none is given. Default: none",
        None, above=0, below=1)  # fmt: skip
    labels: Literal["auto", "none"] = setting(
        "none takes every training image without its label, also images that are not in class folders; validation "
        "images in class folders keep theirs", "auto")  # fmt: skip
    source: Literal["auto", "memory", "files"] = setting(
        "memory decodes all images once, at one size; files decodes them when they are needed, for sets of any size. "
        "auto takes files where the memory does not suffice, or where another setting requires them",
        "auto")  # fmt: skip
    workers: int | None = setting(
        "processes that decode images from files ahead of their use; 0 decodes in the run's own process. Default: the "
        "cores of this process, at most 16",
        None, at_least=0, may_change=True)  # fmt: skip
    crop_fraction: float | None = setting(
        "for images from files, the fraction of the shorter side that validation shows: 0.875 resizes it to 256 pixels "
        "and cuts out 224, as published for ImageNet. Default: 1",
        None, above=0, at_most=1)  # fmt: skip
    scaled_decoding: bool = setting(
        "decode JPEG files at 1/2, 1/4 or 1/8 of their size where a crop stays as large as its result; other pixels",
        False)  # fmt: skip
    skip_broken: float = setting(
        "largest fraction of undecodable images to leave out; 0 stops at the first one", 0.0, at_least=0, below=1
    )
    mean: list[float] | None = setting(
        "channel means on [0, 1]. Default: those of the teacher, those known for the data set, or measured ones",
        None, at_least=0, at_most=1, view=True)  # fmt: skip
    std: list[float] | None = setting(
        "channel standard deviations on [0, 1]. Default: as for mean", None, above=0, at_most=1, view=True
    )
    pad: int | None = setting(
        "random crop after padding by this many pixels; 0 turns it off. Default: what suits the data set",
        None, at_least=0, unit="pixels", view=True)  # fmt: skip
    flip: bool | None = setting("random horizontal flip. Default: what suits the data set", None, view=True)
    rotate: float | None = setting(
        "random rotation by up to this many degrees either way. Default: what suits the data set",
        None, at_least=0, at_most=180, unit="degrees", view=True)  # fmt: skip
    min_scale: float | None = setting(
        "smallest fraction of the area that a random resized crop keeps; 1 turns it off. Default: what suits the data "
        "set",
        None, above=0, at_most=1, view=True)  # fmt: skip
    colour_jitter: float | None = setting(
        "random factors on brightness, contrast and saturation, from 1 - this to 1 + this, in random order; 0 turns it "
        "off. Default: 0",
        None, at_least=0, at_most=1, view=True)  # fmt: skip
    auto_augment: Literal["none", "trivial", "rand"] | None = setting(
        "random operations on colours and geometry: trivial (TrivialAugmentWide), rand (RandAugment) or none. Default: "
        "none",
        None, view=True)  # fmt: skip
    rand_ops: int | None = setting("operations of RandAugment on an image. Default: 2", None, at_least=1, view=True)
    rand_magnitude: int | None = setting(
        "strength of RandAugment's operations, from 0 to 30. Default: 9", None, at_least=0, at_most=30, view=True
    )
    erase: float | None = setting(
        "probability that a random rectangle of an image is filled with the mean colour; 0 turns it off. Default: 0",
        None, at_least=0, at_most=1, view=True)  # fmt: skip
    mixup: float | None = setting(
        "alpha of mixup: each training image is mixed with another one, in fractions drawn from Beta(alpha, alpha); "
        "teacher and student see the same mixture; 0 turns it off. Default: 0",
        None, at_least=0, view=True)  # fmt: skip
    cutmix: float | None = setting(
        "alpha of CutMix: a box of another image is pasted into each training image, of an area drawn from Beta(alpha, "
        "alpha); 0 turns it off. With mixup, one of the two is drawn for each image. Default: 0",
        None, at_least=0, view=True)  # fmt: skip
    mix_probability: float | None = setting(
        "probability that an image is mixed, with mixup or cutmix. Default: 1", None, above=0, at_most=1, view=True
    )
    sampling: Literal["shuffled", "balanced"] = setting(
        "which training images an epoch shows: shuffled (each one once) or balanced (every class equally often, images "
        "of small classes several times, each time in another view)",
        "shuffled", view=True)  # fmt: skip
