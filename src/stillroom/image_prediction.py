"""Image prediction: the classes and probabilities that a classifier gives to image files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from stillroom.data.decoding import pillow_silent
from stillroom.data.folder_scan import IMAGES
from stillroom.data.framing import decode_framed
from stillroom.errors import InputError
from stillroom.files import shown
from stillroom.image_classifier import ImageClassifier, open_classifier
from stillroom.runtime.device import Machine, make_machine
from stillroom.settings import as_kind
from stillroom.suggestions import suggest_path

PathLike = str | os.PathLike[str]


class FilePrediction(NamedTuple):
    """The prediction for one image.

    Attributes:
        path: the image file.
        classes: the most probable classes, the most probable first; empty if the file cannot be read.
        probabilities: of these classes, in [0, 1].
        problem: why the file cannot be read, in a few words; empty if it can.
    """

    path: Path
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    problem: str = ""


def predict_images(
    model: PathLike,
    images: PathLike | Sequence[PathLike],
    *,
    top: int = 5,
    batch_size: int = 64,
    accelerator: str = "auto",
    precision: str = "32",
    checkpoint: str | None = None,
    pretrained: bool = False,
    class_names: PathLike | None = None,
    trust: bool = False,
    say: Callable[[str], None] | None = None,
) -> list[FilePrediction]:
    """Predict the classes of image files.

    An image is prepared as for the validation of the training: its shorter side is resized to the model's size, or to
    that divided by the run's ``crop_fraction`` (of published weights: by theirs), and the centre is cropped. Only one
    batch of images is in memory at a time.

    Args:
        model: the folder of a finished run; a folder or an ONNX file written by ``stillroom export``;
            efficientnet-lite0, timm:NAME or torchvision:NAME.
        images: image files, and folders that stand for all images in them and below, sorted.
        top: number of classes in each prediction, >= 1; at most all classes are given.
        batch_size: images in a step, >= 1.
        accelerator: auto, cpu, cuda or mps.
        precision: 32, bf16 or auto.
        checkpoint: file of weights for a timm or torchvision model, or in the place of a run's own.
        pretrained: whether a timm or torchvision model gets its published weights.
        class_names: file with the names of the classes in the model's order: one a line, or a JSON or YAML list or
            mapping from index to name. Default: the model's own; of ImageNet's, "n01440764 tench"; else numbers.
        trust: whether a model named by a file of the folder may be imported.
        say: called with each note on the model.

    Returns:
        One prediction for each image, in order. An image that cannot be read has a ``problem`` instead.

    Raises:
        InputError: the model cannot be loaded, a path does not exist, or a folder has no images.
    """
    for name, value in (("top", top), ("batch_size", batch_size)):
        if as_kind(name, value, int) < 1:
            raise InputError(f"{name}={value}: give at least 1")
    paths = image_files([images] if isinstance(images, str | os.PathLike) else images)
    machine = make_machine(accelerator, precision)
    names = None if class_names is None else os.fspath(class_names)
    classifier = open_classifier(
        os.fspath(model), machine, checkpoint=checkpoint, pretrained=pretrained, class_names=names, trust=trust,
        say=say or (lambda _text: None),
    )  # fmt: skip
    with pillow_silent():
        batches = (paths[start : start + batch_size] for start in range(0, len(paths), batch_size))
        return [found for batch in batches for found in _predict(classifier, batch, top, machine)]


def image_files(given: Sequence[PathLike]) -> list[Path]:
    """Resolve files and folders to image files.

    Args:
        given: a file is taken whatever its name; a folder stands for all files in it and below that have the suffix of
            an image, sorted, without hidden ones.

    Raises:
        InputError: nothing is given, a path does not exist, or a folder has no images.
    """
    if not given:
        raise InputError("images is empty: give image files or folders")
    found: list[Path] = []
    for path in map(Path, given):
        if not path.exists():
            raise InputError(f"images={shown(path)}: there is no such file or folder{suggest_path(path, Path.exists)}")
        inside = sorted(_images_below(path)) if path.is_dir() else [path]
        if not inside:
            raise InputError(
                f"images={shown(path)}: there are no images in this folder; give files that end in "
                f"{', '.join(sorted(IMAGES))}"
            )
        found += inside
    return found


def _images_below(folder: Path) -> Iterator[Path]:
    """All image files in a folder and below; links to folders are not followed."""
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(here, n) for n in names if Path(n).suffix.lower() in IMAGES and not n.startswith("."))


def _predict(classifier: ImageClassifier, paths: Sequence[Path], top: int, machine: Machine) -> list[FilePrediction]:
    """Predict a batch of images; those that cannot be read are left out of the batch."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = list(pool.map(lambda path: _decode(path, classifier), paths))
    pixels = [image for image in decoded if not isinstance(image, str)]
    rows = iter(classifier.probabilities(torch.from_numpy(np.stack(pixels)).to(machine.device)) if pixels else ())
    found = []
    for path, image in zip(paths, decoded, strict=True):
        if isinstance(image, str):
            found.append(FilePrediction(path, problem=image))
            continue
        values, places = next(rows).topk(min(top, len(classifier.classes)))
        names = tuple(classifier.classes[place] for place in places.tolist())
        found.append(FilePrediction(path, names, tuple(values.tolist())))
    return found


def _decode(path: Path, classifier: ImageClassifier) -> NDArray[np.uint8] | str:
    """The pixels (3, H, W) of an image at the model's size, or why there are none."""
    height, width = classifier.size
    try:
        pixels: NDArray[np.uint8] = decode_framed(path, classifier.framing)[0].numpy()
    except OSError as error:
        return str(error)
    if pixels.shape[1:] != (height, width):
        return f"{pixels.shape[2]}x{pixels.shape[1]} pixels, and the model takes {width}x{height}"
    return pixels
