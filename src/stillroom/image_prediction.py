"""Image prediction: the classes and probabilities that a classifier gives to image files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stillroom.data.decoding import decode_image, pillow_silent
from stillroom.data.folder_scan import IMAGES
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.export.exported_model import load, read_export_config
from stillroom.files import shown
from stillroom.formatting import counted
from stillroom.input_format import InputFormat, InputTransform
from stillroom.models.output import logits_of
from stillroom.prepare.name_checks import check_source
from stillroom.resolve_model import Fit, build, is_run
from stillroom.runtime.device import Machine, make_machine
from stillroom.settings import as_kind
from stillroom.suggestions import suggest_path
from stillroom.trust import given as permit

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


class Classifier(NamedTuple):
    """A model with what is needed to use it on image files.

    Attributes:
        model: in evaluation mode, on the CPU.
        classes: the names of its classes.
        input: how it takes images, with a size.
    """

    model: nn.Module
    classes: tuple[str, ...]
    input: InputFormat


def predict_images(
    model: PathLike,
    images: PathLike | Sequence[PathLike],
    *,
    top: int = 5,
    batch_size: int = 64,
    accelerator: str = "auto",
    precision: str = "32",
    trust: bool = False,
) -> list[FilePrediction]:
    """Predict the classes of image files.

    An image is prepared as for training: its shorter side is resized to the model's size, and the centre is cropped.
    Only one batch of images is in memory at a time.

    Args:
        model: the folder of a finished run, or a folder written by ``stillroom export``.
        images: image files, and folders that stand for all images in them and below, sorted.
        top: number of classes in each prediction, >= 1; at most all classes are given.
        batch_size: images in a step, >= 1.
        accelerator: auto, cpu, cuda or mps.
        precision: 32, bf16 or auto.
        trust: whether a model named by a file of the folder may be imported.

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
    classifier = open_classifier(os.fspath(model), trust=trust)
    classifier.model.to(machine.device)
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


def open_classifier(model: str, *, trust: bool = False) -> Classifier:
    """Load a classifier with its classes and its input format.

    Args:
        model: the folder of a finished run, or of an export.
        trust: whether a model named by a file of the folder may be imported.

    Raises:
        InputError: it is neither, or its model cannot be loaded.
    """
    config = None if is_run(model) else read_export_config(Path(model))
    if config is not None:
        network, config = load(model, trust=trust)
        shape = (config["input"]["channels"], config["input"]["height"], config["input"]["width"])
        return _classifier(model, network, config, shape)
    check_source("model", model, None, pretrained=False)
    if not is_run(model):
        raise InputError(
            f"model={shown(model)}: the names of its classes are not known; give the folder of a finished run, or one "
            "that stillroom export wrote"
        )
    config = RunFolder(Path(model)).config()
    channels, height, width = config["image_shape"]
    fit = Fit(tuple(config["classes"]), channels, (height, width))
    network = build("model", model, fit, None, pretrained=False, trust=permit([model], files=trust))
    return _classifier(model, network, config, tuple(config["image_shape"]))


def _classifier(model: str, network: nn.Module, config: dict[str, Any], shape: tuple[int, ...]) -> Classifier:
    if shape[0] != 3:
        raise InputError(f"model={shown(model)}: it takes {counted(shape[0], 'channel')}; image files have 3")
    wanted = InputFormat(tuple(config["mean"]), tuple(config["std"]), (shape[1], shape[2]))
    return Classifier(network.eval(), tuple(map(str, config["classes"])), wanted)


def _predict(classifier: Classifier, paths: Sequence[Path], top: int, machine: Machine) -> list[FilePrediction]:
    """Predict a batch of images; those that cannot be read are left out of the batch."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = list(pool.map(lambda path: _decode(path, classifier.input), paths))
    pixels = [image for image in decoded if not isinstance(image, str)]
    rows = iter(_probabilities(classifier, np.stack(pixels), machine) if pixels else ())
    found = []
    for path, image in zip(paths, decoded, strict=True):
        if isinstance(image, str):
            found.append(FilePrediction(path, problem=image))
            continue
        values, places = next(rows).topk(min(top, len(classifier.classes)))
        names = tuple(classifier.classes[place] for place in places.tolist())
        found.append(FilePrediction(path, names, tuple(values.tolist())))
    return found


def _decode(path: Path, wanted: InputFormat) -> NDArray[np.uint8] | str:
    """The pixels (3, H, W) of an image at the model's size, or why there are none."""
    height, width = wanted.size or (0, 0)
    try:
        pixels, _ = decode_image(path, height if height == width else None)
    except OSError as error:
        return str(error)
    if pixels.shape[1:] != (height, width):  # only squares are cropped
        return f"{pixels.shape[2]}x{pixels.shape[1]} pixels, and the model takes {width}x{height}"
    return pixels


def _probabilities(classifier: Classifier, pixels: NDArray[np.uint8], machine: Machine) -> Tensor:
    """Pixels (B, 3, H, W) -> probabilities (B, classes) on the CPU."""
    transform = InputTransform(classifier.input, machine.device)
    with torch.inference_mode(), machine.autocast():
        logits = logits_of(classifier.model(transform(torch.from_numpy(pixels).to(machine.device))))
    return logits.float().softmax(1).cpu()
