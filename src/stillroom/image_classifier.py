"""Image classifier: a model that predicts for image files, with the names of its classes and its input format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stillroom.batch import Batch
from stillroom.data.framing import Framing
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.export.exported_model import load, read_export_config
from stillroom.extras import require
from stillroom.files import shown
from stillroom.formatting import counted
from stillroom.input_format import InputFormat
from stillroom.models import (
    build_model,
    is_published,
    published_classes,
    published_crop_fraction,
    published_input,
)
from stillroom.models.classifier_head import head_classes
from stillroom.models.onnx_file import onnx_metadata
from stillroom.prepare.name_checks import check_source, require_weights
from stillroom.reading import parse_json
from stillroom.resolve_model import Fit, build, is_run
from stillroom.runtime.device import Machine
from stillroom.suggestions import suggest_path
from stillroom.teachers.class_names import read_class_names, with_imagenet_words
from stillroom.teachers.onnx_teacher import OnnxTeacher
from stillroom.teachers.teacher import Teacher
from stillroom.teachers.torch_teacher import TorchTeacher
from stillroom.trust import TYPED, naming
from stillroom.trust import given as permit

KNOWN = "give the folder of a finished run, or a folder or an ONNX file that stillroom export wrote"


class ImageClassifier(NamedTuple):
    """A model with what is needed to use it on image files.

    Attributes:
        teacher: predicts logits for pixels, on its device.
        classes: the names of its classes.
        size: height and width at which it takes images, in pixels.
        framing: how an image file is decoded to that size; without a size of its own where that is not square.
    """

    teacher: Teacher
    classes: tuple[str, ...]
    size: tuple[int, int]
    framing: Framing

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W), uint8, on its device -> probabilities (B, classes), float32 on the CPU."""
        unused = torch.zeros(len(pixels), dtype=torch.int64)
        return self.teacher.predict(Batch(pixels, unused, unused, pixels=pixels)).logits.softmax(1).cpu()


class _Network(NamedTuple):
    """A network, the names of its classes if they are known, their number, its input format and its crop of images."""

    model: nn.Module
    classes: tuple[str, ...] | None
    class_count: int
    input_format: InputFormat
    crop: Mapping[str, Any]


def open_classifier(
    model: str,
    machine: Machine,
    *,
    checkpoint: str | None = None,
    pretrained: bool = False,
    class_names: str | None = None,
    trust: bool = False,
    say: Callable[[str], None] = print,
) -> ImageClassifier:
    """Load a classifier with its classes and its input format.

    Args:
        model: the folder of a finished run or of an export, an ONNX file that ``stillroom export`` wrote,
            efficientnet-lite0, timm:NAME or torchvision:NAME.
        machine: device and precision.
        checkpoint: file of weights for a named model, or in the place of a run's own.
        pretrained: whether a timm or torchvision model gets its published weights.
        class_names: file with the names of the classes, as for
            :func:`stillroom.teachers.class_names.read_class_names`. Without it, a model whose classes nobody has named
            gets the numbers of its outputs, from 0.
        trust: whether a model named by a file of the folder may be imported.
        say: called with each message for the user.

    Raises:
        InputError: the model cannot be loaded, does not take colour images, or its input format is not known; or the
            names do not fit it.
    """
    names = None if class_names is None else read_class_names(class_names, setting="class_names")
    onnx = Path(model).suffix.lower() == ".onnx" and not Path(model).is_dir()
    config = None if onnx or is_run(model) else read_export_config(Path(model))
    if (onnx or config is not None) and (checkpoint is not None or pretrained):
        raise InputError(f"model={shown(model)} has weights of its own: leave out checkpoint and pretrained")
    if config is not None:
        _refuse_detector(model, config)
        network, config = load(model, trust=trust)
        channels, height, width = (config["input"][side] for side in ("channels", "height", "width"))
        found = _recorded(model, network, config, (channels, height, width), config["input"])
    elif onnx:
        return _named(model, *_onnx(model, machine, say), names, say)
    else:
        check_source("model", model, checkpoint, pretrained=pretrained)
        if is_run(model):
            found = _from_run(model, checkpoint, trust=trust)
        else:
            found = _published(model, checkpoint, pretrained=pretrained, say=say)
    return _named(model, _placed(found, machine), found.crop, names, say)


def _from_run(model: str, checkpoint: str | None, *, trust: bool) -> _Network:
    """The student of a finished run."""
    config = RunFolder(Path(model)).config()
    _refuse_detector(model, config)
    channels, height, width = config["image_shape"]
    fit = Fit(tuple(config["classes"]), channels, (height, width))
    network = build("model", model, fit, checkpoint, pretrained=False, trust=permit([model], files=trust))
    return _recorded(model, network, config, (channels, height, width), config)


def _refuse_detector(model: str, config: Mapping[str, Any]) -> None:
    """Refuse the run or the export of a detector."""
    if config.get("task") == "detection":
        raise InputError(
            f"model={shown(model)} is a detector, and classes of whole images are predicted here; the README.md that "
            "stillroom export writes shows how to find objects in an image"
        )


def _recorded(
    model: str, network: nn.Module, facts: Mapping[str, Any], shape: tuple[int, int, int], crop: Mapping[str, Any]
) -> _Network:
    """A network with the classes, mean, std and crop that its folder records.

    Raises:
        InputError: it does not take colour images.
    """
    channels, height, width = shape
    if channels != 3:
        raise InputError(f"model={shown(model)}: it takes {counted(channels, 'channel')}; image files have 3")
    wanted = InputFormat(tuple(facts["mean"]), tuple(facts["std"]), (height, width))
    return _Network(network, tuple(map(str, facts["classes"])), len(facts["classes"]), wanted, crop)


def _published(model: str, checkpoint: str | None, *, pretrained: bool, say: Callable[[str], None]) -> _Network:
    """A named model, with the classes and the input format of its published weights."""
    if not is_published(model):
        raise InputError(f"model={shown(model)}: the size, mean and std of its images are not known; {KNOWN}")
    require_weights("model", model, checkpoint, pretrained)
    try:
        network = build_model(
            model, num_classes=None, pretrained=pretrained, checkpoint=checkpoint, new_head=None, origin=TYPED
        )
    except InputError as error:
        raise naming("model", error) from error
    wanted, count = published_input(model, network), head_classes(network)
    if wanted is None or count is None:
        raise InputError(f"model={shown(model)}: its input or its classifier is not known; {KNOWN}")
    classes = published_classes(model, network)
    if classes is not None and checkpoint is not None:
        say(f"note: the classes are those of the published weights of {model}; class_names=FILE names others")
    crop = {"crop_fraction": published_crop_fraction(model, network)}
    return _Network(network, None if classes is None else with_imagenet_words(classes), count, wanted, crop)


def _placed(found: _Network, machine: Machine) -> TorchTeacher:
    """A network on its device."""
    teacher = TorchTeacher(
        found.model,
        input_format=found.input_format,
        shares_input=False,
        class_count=found.class_count,
        classes=found.classes,
    )
    assert found.input_format.size is not None
    noise = torch.randint(0, 256, (2, 3, *found.input_format.size), generator=torch.Generator().manual_seed(0))
    pixels = noise.to(torch.uint8).to(machine.device)
    teacher.place(machine, pixels, layout=torch.channels_last)
    return teacher


def _onnx(model: str, machine: Machine, say: Callable[[str], None]) -> tuple[OnnxTeacher, Mapping[str, Any]]:
    """A model in an ONNX file of ours, which records its classes and normalisation; and its crop of images."""
    require(f"model={shown(model)}", "onnx")
    path = Path(model)
    if not path.is_file():
        raise InputError(f"model={shown(model)}: there is no such file{suggest_path(path, Path.is_file)}")
    metadata = onnx_metadata(path)
    if "stillroom" not in metadata:
        raise InputError(
            f"model={shown(model)}: stillroom export did not write this file, so that the mean and std of its images "
            f"are not known; {KNOWN}"
        )
    teacher = OnnxTeacher(path, device=machine.device, say=say)  # refuses unreadable metadata
    crop = parse_json(metadata["stillroom"], path).get("input")
    return teacher, crop if isinstance(crop, dict) else {}


def _framing(size: tuple[int, int], crop: Mapping[str, Any]) -> Framing:
    """How image files are decoded for a model.

    Args:
        size: height and width at which it takes images.
        crop: ``crop_fraction`` and ``scaled_decoding`` where they are known.
    """
    height, width = size
    fraction = crop.get("crop_fraction")
    if height != width:  # only squares are cropped
        return Framing(None)
    return Framing(
        height,
        crop_fraction=fraction if isinstance(fraction, float) else 1.0,
        scaled_decoding=crop.get("scaled_decoding") is True,
    )


def _named(
    model: str,
    teacher: Teacher,
    crop: Mapping[str, Any],
    names: tuple[str, ...] | None,
    say: Callable[[str], None],
) -> ImageClassifier:
    """A classifier whose classes have the given names, else its own, else their numbers.

    Raises:
        InputError: the names are not as many as its classes, or it takes images at no fixed size.
    """
    count, size = teacher.class_count, teacher.input_format.size
    if size is None:
        raise InputError(f"model={shown(model)}: the size of its images is not known; {KNOWN}")
    if names is not None and len(names) != count:
        raise InputError(
            f"class_names has {counted(len(names), 'name')}, and model={shown(model)} has {counted(count, 'class')}: "
            "give one name for each class, in the model's order"
        )
    if names is None and teacher.classes is None:
        say(
            f"note: the classes of {shown(model)} have no names; their numbers are shown, from 0. class_names=FILE "
            "names them"
        )
    classes = names or teacher.classes or tuple(map(str, range(count)))
    return ImageClassifier(teacher, classes, size, _framing(size, crop))
