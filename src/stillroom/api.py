"""The Python interface: train, distil and evaluate. The command line calls it too."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from stillroom.config import DataOptions, Recipe, make_recipe, refuse_unknown
from stillroom.data import DataSet
from stillroom.data.decoding_workers import naming_workers
from stillroom.engine.loop import Loop
from stillroom.engine.run_folder import RunFolder
from stillroom.engine.training_job import Job
from stillroom.errors import InputError, InUse
from stillroom.launcher.launch_ray import launch
from stillroom.loggers.logging_reporter import logging_to
from stillroom.methods import Method, Term
from stillroom.models import load_weights
from stillroom.models.borrowed import borrowed
from stillroom.models.student_wrapper import remove_wrapper_hooks
from stillroom.prepare.evaluate_classifier import ClassMapping, evaluate_classifier
from stillroom.prepare.evaluate_detector import evaluate_detector
from stillroom.prepare.load_dataset import load_dataset, with_image_size, with_options, with_task
from stillroom.prepare.measured_model import MeasuredModel
from stillroom.prepare.name_checks import check_source, require_weights
from stillroom.prepare.prepare import prepare
from stillroom.prepare.python_inputs import Inputs, refuse_lazy, refuse_loading
from stillroom.prepare.start_notes import evaluation_notes
from stillroom.prepare.validation_crop import with_crop_of_run
from stillroom.resolve_model import Fit, build
from stillroom.runtime.device import Machine, make_machine, processes_joined
from stillroom.runtime.reporters import Reporter, Silent, make_reporter
from stillroom.settings import as_kind, settings_in
from stillroom.tasks.average_precision import AveragePrecision
from stillroom.tasks.classification_score import Evaluation
from stillroom.trust import given as permit

ModelLike = str | os.PathLike[str] | nn.Module
DataLike = str | os.PathLike[str] | DataSet


class Result(NamedTuple):
    """The result of a run.

    Attributes:
        student: the trained model in evaluation mode; a module passed from Python is back on its device.
        record: its run folder: ``record.summary()``, ``record.epochs()``, ``record.config()``, ``record.path``.
    """

    student: nn.Module
    record: RunFolder


def train(*, model: ModelLike, data: DataLike, progress: bool = False, trust: bool = False, **settings: Any) -> Result:
    """Train a classifier or a detector on labels.

    Args:
        model: a name (see ``stillroom list models``), a run folder, or a module. A module is trained in place; only
            its weights and buffers change.
        data: a name (see ``stillroom list data``), a folder, or a loaded :class:`stillroom.data.DataSet`.
        progress: show progress on stderr.
        trust: whether models named by the files of run folders may be imported or downloaded.
        **settings: any setting of ``stillroom train --help``, for example ``epochs=30, lr=0.1``.

    Returns:
        The trained model and its record.

    Raises:
        InputError: for anything that cannot work, before training begins.
    """
    refuse_loading(data, settings)
    name = _name("model", model)
    inputs = Inputs(
        student=_module("model", model), data=_loaded(data), trust=permit([name, settings.get("log_to")], files=trust)
    )
    recipe = make_recipe("train", {"model": name, "data": _data_name(data), **settings})
    return run_recipe(recipe, make_reporter(progress), inputs)


def distill(
    *,
    teacher: ModelLike,
    student: ModelLike,
    data: DataLike,
    method: str | Method | nn.Module | None = None,
    progress: bool = False,
    trust: bool = False,
    **settings: Any,
) -> Result:
    """Distil a teacher into a student.

    Args:
        teacher: a run folder, a name, or a trained module; a module is left unchanged unless ``shard_teacher``
            distributes it.
        student: a name, a run folder, or a module that is trained in place.
        data: a name, a folder, or a loaded :class:`stillroom.data.DataSet`.
        method: text such as ``"0.1*ce + 0.9*kd(temperature=4)"``, a :class:`stillroom.methods.Method`, or one loss
            module, which is added to the cross-entropy with weight 1. None is the method of the recipe, ``"ldrld"``
            where it has none.
        progress: show progress on stderr.
        trust: whether models named by the files of run folders may be imported or downloaded.
        **settings: any setting of ``stillroom distill --help``, for example ``epochs=30, lr=0.1``.

    Returns:
        The trained student and its record.

    Raises:
        InputError: for anything that cannot work, before training begins.
    """
    refuse_loading(data, settings)
    made = method if isinstance(method, Method) else None
    if made is None and isinstance(method, nn.Module):
        made = Method([Term(method)])
    if made is None and not isinstance(method, str | None):
        raise InputError(f"method={method!r}: give text such as 'kd(temperature=2)', a Method, or one loss module")
    names = {"teacher": _name("teacher", teacher), "student": _name("student", student), "data": _data_name(data)}
    allowed = permit([names["teacher"], names["student"], method, settings.get("log_to")], files=trust)
    inputs = Inputs(_module("teacher", teacher), _module("student", student), made, _loaded(data), trust=allowed)
    text = made.text if made is not None else method
    losses = {} if text is None else {"method": text}
    recipe = make_recipe("distill", {**names, **losses, **settings})
    return run_recipe(recipe, make_reporter(progress), inputs)


@naming_workers()
def evaluate(
    *,
    model: ModelLike,
    data: DataLike,
    checkpoint: str | None = None,
    pretrained: bool = False,
    batch_size: int = 256,
    accelerator: str = "auto",
    precision: str = "32",
    class_map: str = "auto",
    unmapped: Literal["refuse", "lowest"] = "refuse",
    trust: bool = False,
    say: Callable[[str], object] = warnings.warn,
    **options: Any,
) -> Evaluation | AveragePrecision:
    """Measure a classifier or a detector on the validation images.

    Args:
        model: a run folder, a name, or a module.
        data: a name, a folder, or a loaded :class:`stillroom.data.DataSet`.
        checkpoint: weights for the model; with a run folder, in place of the run's.
        pretrained: use the published weights of a timm or torchvision model; an error for other models.
        batch_size: images a step.
        accelerator: auto, cpu, cuda or mps.
        precision: 32, bf16 or auto.
        class_map: how the classes of a pretrained model become those of the data, as in ``stillroom distill --help``.
        unmapped: what to do with a class of the data that such a model does not have.
        trust: whether a model named by the files of a run folder may be imported or downloaded.
        say: receives notes, such as validation images that the model was trained on.
        **options: settings of the data, as in ``stillroom evaluate --help``.

    Raises:
        InputError: for anything that cannot work.
    """
    refuse_unknown(
        options, [*settings_in(DataOptions), "checkpoint", "pretrained", "batch_size", "class_map", "unmapped"]
    )
    refuse_loading(data, options)
    size, name = as_kind("batch_size", batch_size, int), _name("model", model)
    settings = {"checkpoint": checkpoint, "pretrained": pretrained, "accelerator": accelerator, "precision": precision}
    recipe = make_recipe("train", {"model": name, "data": _data_name(data), **settings, **options})
    recipe = with_crop_of_run(with_image_size(with_task(recipe, data if isinstance(data, DataSet) else None)))
    chosen, run, given = recipe.data, recipe.run, _module("model", model) or name
    check_source("model", given, checkpoint, pretrained)
    require_weights("model", given, checkpoint, pretrained)
    dataset = data if isinstance(data, DataSet) else load_dataset(chosen, say=say)
    dataset = with_options(dataset, chosen, name)
    if dataset.val.unlabelled:
        raise InputError(
            f"data={recipe.data.data}: the validation images have no labels, so that accuracy cannot be measured; put "
            "them into class folders"
        )
    allowed, machine = permit([name], files=trust), make_machine(run.accelerator, run.precision)
    for note in evaluation_notes(given if checkpoint is None else "", dataset):
        say(note)
    model_of = MeasuredModel(given, checkpoint, pretrained, allowed)
    if dataset.task == "detection":
        return evaluate_detector(model_of, dataset, chosen, machine, size)
    mapping = ClassMapping(class_map, unmapped)
    own_crop = chosen.crop_fraction is not None or isinstance(data, DataSet)
    return evaluate_classifier(model_of, dataset, chosen, machine, size, mapping, say, own_crop=own_crop)


def run_recipe(recipe: Recipe, reporter: Reporter, inputs: Inputs | None = None) -> Result:
    """Prepare a run and train it; continue a stopped run, or return the record of a finished one.

    Args:
        recipe: from :func:`stillroom.config.make_recipe`; with ``launcher=ray`` it is trained by other processes.
        reporter: shows the progress.
        inputs: objects used instead of the recipe's names, and which names are trusted. Without it, no name is
            imported or downloaded.

    Raises:
        InputError: for anything that cannot work, before training begins.
    """
    inputs = inputs or Inputs()
    if recipe.launch.launcher == "none":
        return run_here(recipe, reporter, inputs)
    launch(run_here, recipe, reporter, inputs)
    run = RunFolder(Path(recipe.run.runs) / recipe.run_name, inputs.trust)
    config = run.config()
    channels, height, width = config["image_shape"]
    fit = Fit(tuple(config["classes"]), channels, (height, width), config.get("task", "classification"))
    with torch.random.fork_rng():
        student = build("student", str(run.path), fit, None, pretrained=False, trust=inputs.trust)
    return Result(student.eval(), run)


def run_here(recipe: Recipe, reporter: Reporter, inputs: Inputs) -> Result:
    """Do what :func:`run_recipe` does in this process, or as one of the processes that a launcher has started."""
    machine = make_machine(recipe.run.accelerator, recipe.run.precision)
    if not machine.first:
        reporter = Silent()
    sharded = machine.world_size > 1 and recipe.run.shard_teacher  # its parameters stay distributed
    # The caller's random state and models are restored afterwards.
    with torch.random.fork_rng(), borrowed(inputs.student, None if sharded else inputs.teacher):
        job = _run(recipe, reporter, inputs, machine)
        if inputs.student is not None:
            remove_wrapper_hooks(job.student)
    for parameter in () if inputs.student is None else inputs.student.parameters():
        job.student.to(parameter.device)  # and the wrapper around it
        break
    return Result(job.student.eval(), job.run)


def _run(recipe: Recipe, reporter: Reporter, inputs: Inputs, machine: Machine) -> Job:
    with processes_joined(machine):
        job = prepare(recipe, inputs, reporter, machine)
        if job.run.complete or (job.run.finished and not job.run.last.exists()):
            reporter.say(f"{job.run.path} is already finished; its record is returned")
            if machine.first:
                with suppress(InUse), job.run.held():
                    pass  # removes the lock and temporary files that a kill after the summary left
            load_weights(job.student, job.run.student)
        else:
            names = recipe.run.log_to if machine.first else None
            alone = job.run.held() if machine.first else nullcontext()
            with alone, logging_to(names, inputs.trust, job.run.path, reporter) as told:
                Loop(job, told).run()
    return job


def _module(role: str, value: ModelLike) -> nn.Module | None:
    module = value if isinstance(value, nn.Module) else None
    refuse_lazy(role, module)
    return module


def _loaded(value: DataLike) -> DataSet | None:
    return value if isinstance(value, DataSet) else None


def _name(role: str, model: ModelLike) -> str:
    """A model as a recipe names it; a module by its class."""
    if isinstance(model, nn.Module):
        return f"{type(model).__module__}.{type(model).__qualname__}"
    if isinstance(model, type):
        raise InputError(f"{role}={model!r} is a class: give an instance, {model.__name__}(...)")
    if not isinstance(model, str | os.PathLike):
        raise InputError(f"{role}={model!r}: give a name, a run folder, or a torch.nn.Module")
    return os.fspath(model)


def _data_name(data: DataLike) -> str:
    if isinstance(data, DataSet):
        return data.name
    if not isinstance(data, str | os.PathLike):
        raise InputError(f"data={type(data).__name__}: give a name, a folder, or a stillroom.data.DataSet")
    return os.fspath(data)
