"""The source of an export: a finished run with its student, its images and its record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from stillroom.data import BatchLoader, DataSet
from stillroom.data.decoding_workers import worker_count
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.models import load_weights, without_weights
from stillroom.models.student_wrapper import rewrapped
from stillroom.resolve_model import fingerprint, followed, was_handed_in
from stillroom.restore import dataset_of, student_of, teacher_of

BATCH = 64


@dataclass(frozen=True)
class SourceRun:
    """A finished student with its record.

    Attributes:
        run: its run folder.
        config: the run's settings and inputs.
        summary: the finished run in numbers.
        data: the images as the run saw them.
        student: on the CPU, in float32 and evaluation mode.
        model: its architecture, as :func:`stillroom.models.build_model` takes it; a class's name for a module that
            was handed in.
        given: whether the student was handed in as a module, so that its name does not build it.
        weights: sixteen hexadecimal digits that name its weights.
    """

    run: RunFolder
    config: dict[str, Any]
    summary: dict[str, Any]
    data: DataSet
    student: nn.Module
    model: str
    given: bool
    weights: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        return self.data.input_shape

    def validation(self) -> BatchLoader:
        """The validation images as the student sees them, in the set's order."""
        data = self.data
        return data.val.loader(batch_size=BATCH, input_format=data.input_format, shuffle=False, workers=worker_count())

    def images(self, count: int) -> Tensor:
        """The first validation images, repeated where there are too few, (count, C, H, W)."""
        images = next(self.validation().epoch(0)).images
        return images.repeat(-(-count // len(images)), 1, 1, 1)[:count].contiguous()

    def training(self) -> BatchLoader:
        """The training images without augmentation, in an order that the run's seed fixes."""
        data = self.data
        size = min(BATCH, len(data.train))
        seed = self.config["seed"]
        return data.train.loader(
            batch_size=size, input_format=data.input_format, shuffle=True, seed=seed, workers=worker_count()
        )


def read_source_run(run: RunFolder, student: nn.Module | None, data: DataSet | None) -> SourceRun:
    """Read a run and build its student again.

    Args:
        run: a finished run.
        student: the module to load the weights into, where the name does not build it.
        data: the images, where they were handed to the run.

    Raises:
        InputError: the run is unfinished or damaged, or its student cannot be built or its images cannot be loaded.
    """
    config = run.config()
    if not run.finished:
        raise InputError(f"{run.path}: this run is not finished; run its command again first")
    summary = run.summary()
    model = architecture_name(run)
    if student is None:
        _check_name(run, model)
    data = dataset_of(run) if data is None else _as_in_the_run(run, config, data)
    if student is None:
        found = student_of(run, data)
    else:
        found = rewrapped(student, config, len(data.train.classes))
        load_weights(found, run.student)
    found = found.cpu().float().eval().requires_grad_(False)
    return SourceRun(run, config, summary, data, found, model, student is not None, fingerprint(found))


def architecture_name(run: RunFolder) -> str:
    """The name of a run's model, also where the run began from the model of another run.

    It builds the network without published weights, since the run's own follow.
    """
    return without_weights(followed(str(run.path), run.trust)[0])


def teacher_or_reason(source: SourceRun) -> tuple[nn.Module | None, str]:
    """The run's teacher, in float32 and evaluation mode on the CPU, or the reason why there is none."""
    if not source.config.get("teacher"):
        return None, "this run had no teacher"
    try:
        teacher = teacher_of(source.run, source.data)
    except InputError as error:
        return None, f"the teacher cannot be built again: {error}"
    if teacher is None:
        return None, "this run had no teacher"
    return teacher.cpu().float().eval().requires_grad_(False), ""


def _check_name(run: RunFolder, model: str) -> None:
    """Refuse a student that was handed in as a module, before images are loaded."""
    if was_handed_in(model):
        raise InputError(
            f"{run.path}: its student was handed in as a module ({model}), which a name cannot build again; from "
            "Python call stillroom.export.export(run, student=MODULE) with a module built as that one was"
        )


def _as_in_the_run(run: RunFolder, config: dict[str, Any], data: DataSet) -> DataSet:
    """The given images, normalised as in the run, if classes and shape fit."""
    shape, classes = list(data.input_shape), list(data.train.classes)
    if classes != config["classes"] or shape != config["image_shape"]:
        raise InputError(
            f"data={data.name}: {len(classes)} classes and images of {shape} are not those of {run.path} "
            f"({len(config['classes'])} classes, {config['image_shape']}); hand in the images it was trained on"
        )
    return replace(data, mean=tuple(config["mean"]), std=tuple(config["std"]))
