"""A PyTorch network as a teacher: built with its own classes and its own input format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from stillroom.data import DataSet
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.input_format import InputFormat
from stillroom.models import PRETRAINED_NAMES, published_classes, published_input
from stillroom.models.backbone import without_head
from stillroom.models.output import check_output, evaluating, logits_of
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.run_identity import TorchIdentity, torch_identity
from stillroom.resolve_model import Fit, build, is_function, is_run
from stillroom.teachers.offers import check_probabilities
from stillroom.teachers.teacher_entry import TeacherEntry
from stillroom.teachers.torch_teacher import TorchTeacher
from stillroom.trust import naming


def network_teacher(
    entry: TeacherEntry, classes: tuple[str, ...] | None, inputs: Inputs, data: DataSet, say: Callable[[str], None]
) -> tuple[TorchTeacher, TorchIdentity]:
    """Build a network that teaches, on the CPU.

    Args:
        entry: its settings.
        classes: the names of its classes, where the user gave them.
        inputs: a module used instead of the name, and which names are trusted.
        data: the images, with the student's normalisation.
        say: told its input format, where that differs from the student's.

    Returns:
        The teacher and its fingerprints.

    Raises:
        InputError: it cannot be built, does not fit its settings, or returns something else than they say.
    """
    headless = entry.output == "embedding"
    name = "" if inputs.teacher is not None else entry.teacher
    channels, height, width = data.train.shape
    side = None if entry.image_size is None else (entry.image_size, entry.image_size)
    published = has_published_input(name, entry.checkpoint, pretrained=entry.pretrained)
    start = _of_run(name) if is_run(name) else _as_stored(data.input_format, data)
    size = side or (None if published else start.size or (height, width))
    bare = headless and (not name or name.startswith("timm:") or is_function(name))  # built without a classifier
    fit = Fit(() if bare else _classes_to_build(name, classes, data), channels, size)
    network = build("teacher", inputs.teacher or name, fit, entry.checkpoint, entry.pretrained, inputs.trust).cpu()
    found = published_input(name, network) if published else None
    wanted = _as_stored(_with_settings(found or start, entry, side), data)
    taken = wanted.size or (height, width)
    if headless and not bare:
        _drop_head(network, channels, taken)
    count = check_output(network, None, channels, taken, headless=headless)
    if classes is None and not headless:
        classes = _known_classes(name, network, count, data)
    shares = wanted == _as_stored(data.input_format, data)
    if not shares:
        at = "" if wanted.size else f"{width}x{height} pixels, "
        say(f"{entry.teacher}: takes images at {at}{wanted}")
    if found is not None and (wanted.mean, wanted.std) != (found.mean, found.std):
        say(f"note: the weights of {entry.teacher} were published for {replace(found, size=None)}")
    if inputs.teacher is not None and entry.mean is None:
        _note_of_module(inputs.teacher, wanted, say)
    identity = torch_identity(network)
    teacher = TorchTeacher(
        network, input_format=wanted, shares_input=shares, class_count=0 if headless else count, classes=classes,
        offers=entry.output, identity=identity.text,
    )  # fmt: skip
    if entry.output in ("probabilities", "top-k"):
        _check_output_kind(teacher, entry, data)
    return teacher, identity


def _drop_head(network: nn.Module, channels: int, size: tuple[int, int]) -> None:
    try:
        without_head(network, channels, size)
    except InputError as error:
        raise naming("teacher_output=embedding", error) from error


def has_published_input(name: str, checkpoint: str | None, *, pretrained: bool) -> bool:
    """Whether the library of a network says how its weights take images; also for weights from a file."""
    if name in PRETRAINED_NAMES:
        return True
    return name.startswith(("timm:", "torchvision:")) and (pretrained or checkpoint is not None)


def _of_run(name: str) -> InputFormat:
    config = RunFolder(Path(name)).config()
    _, height, width = config["image_shape"]
    return InputFormat(tuple(config["mean"]), tuple(config["std"]), (height, width))


def _classes_to_build(name: str, classes: tuple[str, ...] | None, data: DataSet) -> tuple[str, ...] | None:
    """The classes that a network is built with; None for those of its weights."""
    if is_run(name):
        return tuple(map(str, RunFolder(Path(name)).config()["classes"]))
    if is_function(name):  # called with a number of classes
        return classes or data.train.classes
    return None


def _known_classes(name: str, network: nn.Module, count: int, data: DataSet) -> tuple[str, ...] | None:
    """The names of a network's classes, where they are known; equally many as in the data count as the data's."""
    if is_run(name):
        return tuple(map(str, RunFolder(Path(name)).config()["classes"]))
    known = published_classes(name, network) if name else None
    if known is None and count == len(data.train.classes):
        return data.train.classes
    return known


def _with_settings(base: InputFormat, entry: TeacherEntry, side: tuple[int, int] | None) -> InputFormat:
    return InputFormat(
        tuple(entry.mean or base.mean),
        tuple(entry.std or base.std),
        side or base.size,
        entry.interpolation or base.interpolation,
    )


def _as_stored(wanted: InputFormat, data: DataSet) -> InputFormat:
    """The same format; without a size and an interpolation where images are stored at that size."""
    _, height, width = data.train.shape
    if wanted.size in (None, (height, width)):
        return InputFormat(wanted.mean, wanted.std)
    return wanted


def _note_of_module(module: nn.Module, wanted: InputFormat, say: Callable[[str], None]) -> None:
    """Say if a timm module from Python describes another normalisation than it gets."""
    found = published_input("timm:", module)
    if found is not None and (found.mean, found.std) != (wanted.mean, wanted.std):
        say(
            f"note: the teacher's pretrained configuration is {found}, and it takes images with {wanted}; if its "
            "weights were trained as configured, give teacher_image_size, teacher_mean and teacher_std"
        )


def _check_output_kind(teacher: TorchTeacher, entry: TeacherEntry, data: DataSet) -> None:
    """Refuse a network that does not return the probabilities that the settings promise."""
    few = data.train.at(torch.arange(min(8, len(data.train))))
    batch = next(few.loader(batch_size=len(few), input_format=data.input_format, shuffle=False).epoch(0))
    with evaluating(teacher.model), torch.no_grad():
        raw = logits_of(teacher.model(teacher.input_of(batch)))
    check_probabilities(raw, entry.output, f"teacher={entry.teacher}")
