"""Build a run's teacher: the network, its classes, and the format in which it takes images."""

from __future__ import annotations

from pathlib import Path

from stillroom.config import DistillModels
from stillroom.data import DataSet
from stillroom.engine.run_folder import RunFolder
from stillroom.input_format import InputFormat
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.run_identity import torch_identity
from stillroom.resolve_model import Fit, build, is_run
from stillroom.teachers.logit_fingerprint import probe
from stillroom.teachers.prepared_teacher import Member, PreparedTeacher
from stillroom.teachers.torch_teacher import TorchTeacher


def build_teacher(models: DistillModels, inputs: Inputs, data: DataSet) -> PreparedTeacher:
    """Build the teacher that the settings name, on the CPU.

    Args:
        models: the settings.
        inputs: objects used instead of names.
        data: the images, with the student's normalisation.

    Raises:
        InputError: naming the setting that cannot work.
    """
    given = inputs.teacher or models.teacher
    wanted = _input_format(models, data, None if inputs.teacher is not None else models.teacher)
    classes = data.train.classes
    channels, height, width = data.train.images.shape[1:]
    fit = Fit(classes, channels, wanted.size or (height, width))
    network = build("teacher", given, fit, models.teacher_checkpoint, models.teacher_pretrained, inputs.trust).cpu()
    identity = torch_identity(network)
    teacher = TorchTeacher(
        network,
        input_format=wanted,
        shares_input=wanted == _as_stored(data.input_format, data),
        class_count=len(classes),
        classes=classes,
        identity=identity.text,
    )
    known = probe(teacher, data)
    return PreparedTeacher((Member(teacher, identity.text, known),), identity.weights, identity.parts, known)


def _input_format(models: DistillModels, data: DataSet, name: str | None) -> InputFormat:
    """How a teacher takes images: as the settings say, else as in its run, else as the student does."""
    base = data.input_format
    if name is not None and is_run(name):
        config = RunFolder(Path(name)).config()
        _, height, width = config["image_shape"]
        base = InputFormat(tuple(config["mean"]), tuple(config["std"]), (height, width))
    side = models.teacher_image_size
    return _as_stored(
        InputFormat(
            tuple(models.teacher_mean or base.mean),
            tuple(models.teacher_std or base.std),
            base.size if side is None else (side, side),
            models.teacher_interpolation or base.interpolation,
        ),
        data,
    )


def _as_stored(wanted: InputFormat, data: DataSet) -> InputFormat:
    """The same format; without a size and an interpolation where images are stored at that size."""
    height, width = data.train.images.shape[2:]
    if wanted.size in (None, (height, width)):
        return InputFormat(wanted.mean, wanted.std)
    return wanted
