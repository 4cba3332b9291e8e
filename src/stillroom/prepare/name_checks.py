"""Check the names of models, weights and methods before an image is read or a model is built."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from torch import nn

from stillroom.config import DistillModels, Recipe, RemoteOptions, RunOptions, TrainModel
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.loggers.logger_names import check_loggers
from stillroom.methods import parse_method
from stillroom.models import BARE_NAMES, PRETRAINED_NAMES, build_model, is_published, without_weights
from stillroom.models.backbone import build_backbone
from stillroom.models.build import unknown_name
from stillroom.models.detectors import build_detector
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.teacher_entries import gives_embeddings, teacher_entries
from stillroom.resolve_model import ModelLike, followed, is_function, is_run, was_handed_in
from stillroom.suggestions import suggest_path
from stillroom.teachers.class_names import read_class_names
from stillroom.teachers.inference_client import read_api_key
from stillroom.teachers.inference_protocol import parse_address
from stillroom.teachers.teacher_entry import TeacherEntry
from stillroom.teachers.teacher_kind import TeacherKind, teacher_kind
from stillroom.trust import naming

Source = tuple[str, ModelLike, str | None, bool]  # role, model, checkpoint, pretrained


def check_names(recipe: Recipe, inputs: Inputs) -> None:
    """Refuse unknown models, methods and loggers, and teachers without weights.

    Raises:
        InputError: naming the setting.
    """
    models = recipe.models
    check_loggers(recipe.run.log_to, inputs.trust)
    if inputs.method is None and isinstance(models, DistillModels):
        parse_method(models.method, inputs.trust.of(models.method))
    if inputs.teacher is not None and inputs.teacher is inputs.student:
        raise InputError("teacher and student are the same module: give the student a module of its own")
    if isinstance(models, TrainModel):
        wanted: list[Source] = []
        trained: Source = ("model", inputs.student or models.model, models.checkpoint, models.pretrained)
    else:
        wanted = _teachers(recipe, inputs)
        trained = "student", inputs.student or models.student, models.student_checkpoint, models.student_pretrained
    if models.new_head:
        _refuse_new_head_on_random_weights(*trained)
    for role, model, checkpoint, pretrained in (*wanted, trained):
        check_source(role, model, checkpoint, pretrained)
        if role == "teacher":
            require_weights(role, model, checkpoint, pretrained)
        if not isinstance(model, str):
            continue
        name, trust = followed(model, inputs.trust)
        if checkpoint is not None or is_run(model):
            name = without_weights(name)
        if not is_run(model) or not was_handed_in(name):
            backbone = role == "teacher" and is_function(model) and gives_embeddings(recipe)
            try:
                with torch.device("meta"):
                    if recipe.data.task == "detection":
                        build_detector(name, ("object",), origin=trust.of(name))
                    elif backbone:
                        build_backbone(name, origin=trust.of(name))
                    else:
                        build_model(name, num_classes=2, origin=trust.of(name))
            except InputError as error:
                raise naming(f"{role}={model}", error) from error
            except Exception:  # noqa: BLE001, S110  some models cannot be built on the meta device; they are built later
                pass


def _refuse_new_head_on_random_weights(role: str, model: ModelLike, checkpoint: str | None, pretrained: bool) -> None:
    if not isinstance(model, str) or checkpoint is not None or pretrained or is_run(model):
        return
    prefix = "student_" if role == "student" else ""
    raise InputError(
        f"new_head=true: {role}={model} starts from random weights, its head included; give {prefix}checkpoint=FILE, "
        f"{prefix}pretrained=true, or as {role} the folder of a finished run"
    )


def _teachers(recipe: Recipe, inputs: Inputs) -> list[Source]:
    """The networks among the teachers; files and addresses are checked here."""
    networks: list[Source] = []
    remote = recipe.remote or RemoteOptions()
    for entry in teacher_entries(recipe, given=inputs.teacher is not None)[0]:
        kind = "network" if inputs.teacher is not None else teacher_kind(entry.teacher)
        if entry.output == "embedding":
            _refuse_with_embedding(entry, kind, several=not gives_embeddings(recipe))
        if entry.classes is not None:
            read_class_names(entry.classes)
        if entry.class_map not in ("auto", "none") and not Path(entry.class_map).is_file():
            raise InputError(
                f"class_map={entry.class_map}: give auto, none, or a file that exists"
                f"{suggest_path(entry.class_map, Path.is_file)}"
            )
        if kind == "network":
            networks.append(("teacher", inputs.teacher or entry.teacher, entry.checkpoint, entry.pretrained))
            continue
        if entry.pretrained or entry.checkpoint is not None:
            raise InputError(
                f"teacher={entry.teacher} has its weights; leave teacher_pretrained and teacher_checkpoint out"
            )
        if kind == "server":
            parse_address(entry.teacher)
            read_api_key(remote.teacher_api_key_env)
        elif not Path(entry.teacher).is_file():
            raise InputError(
                f"teacher={entry.teacher}: there is no such file{suggest_path(entry.teacher, Path.is_file)}"
            )
    return networks


def _refuse_with_embedding(entry: TeacherEntry, kind: TeacherKind, *, several: bool) -> None:
    """Refuse settings that mean nothing for embeddings, and teachers that have none."""
    if several:
        raise InputError(
            f"output=embedding of {entry.teacher}: the embeddings of several teachers cannot be combined; distil one "
            "teacher of embeddings"
        )
    if kind != "network":
        raise InputError(
            f"teacher_output=embedding: teacher={entry.teacher} gives predictions only; give a PyTorch network (a timm "
            "model, a function, a run folder, or a module from Python)"
        )
    unused = {"class_map": (entry.class_map, "auto"), "teacher_classes": (entry.classes, None),
              "unmapped": (entry.unmapped, "refuse")}  # fmt: skip
    for name, (value, usual) in unused.items():
        if value != usual:
            raise InputError(f"{name}={value}: an embedding has no classes; leave it out with teacher_output=embedding")


def check_source(role: str, model: ModelLike, checkpoint: str | None, pretrained: bool) -> None:
    """Refuse a model that does not exist, an unfinished run, and weights that would be ignored.

    Args:
        role: model, teacher or student.
        model: a name, a run folder or a module.
        checkpoint: file with weights; serves any model, and takes the place of a run's own weights.
        pretrained: whether published weights are requested; only timm and torchvision models have them.

    Raises:
        InputError: naming the setting, its value and what to give instead.
    """
    prefix = "" if role == "model" else f"{role}_"
    if isinstance(model, str):
        _check_name(role, model)
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise InputError(
            f"{prefix}checkpoint={checkpoint}: there is no such file{suggest_path(checkpoint, Path.is_file)}"
        )
    if not pretrained:
        return
    if checkpoint is not None:
        raise InputError(f"{prefix}pretrained=true and {prefix}checkpoint={checkpoint} both name weights; give one")
    if not isinstance(model, str):
        why = f"the {role} was passed as a module and has its weights; leave {prefix}pretrained out"
    elif is_run(model):
        why = f"{role}={model} is a run folder, whose own weights are used; leave {prefix}pretrained out"
    elif is_published(model):
        return
    else:
        why = f"there are no published weights for {role}={model}; give {prefix}checkpoint=FILE"
    raise InputError(f"{prefix}pretrained=true: {why}")


def require_weights(role: str, model: ModelLike, checkpoint: str | None, pretrained: bool) -> None:
    """Refuse a model without weights, which would predict at random.

    Raises:
        InputError: naming the settings that give it weights.
    """
    if isinstance(model, nn.Module) or checkpoint or pretrained or is_run(model):
        return
    hub = model.startswith(("timm:", "torchvision:"))
    if model in PRETRAINED_NAMES or (":" in model and not hub):  # a function may bring weights
        return
    prefix = "" if role == "model" else f"{role}_"
    published = f"{prefix}pretrained=true, " if hub else ""
    raise InputError(
        f"{role}={model} would have random weights: give {prefix}checkpoint=FILE, {published}"
        f"or as {role} the folder of a finished run"
    )


def check_run(name: str, path: Path) -> None:
    """Refuse a path that is not a run folder.

    Args:
        name: the argument in the message, such as ``teacher=``.
        path: where the run should be.

    Raises:
        InputError: suggesting similar paths.
    """
    if path.is_dir() and not is_run(path):
        raise InputError(f"{name}{path}: this folder is not a run, it has no config.yaml; give the folder of a run")
    if not is_run(path):
        raise InputError(f"{name}{path}: there is no such run folder{suggest_path(path, is_run)}")


def _check_name(role: str, model: str) -> None:
    """Refuse a run folder that does not exist or is not finished, and an unknown name."""
    if is_run(model):
        if not RunFolder(Path(model)).finished:
            raise InputError(f"{role}={model}: this run is not finished; run its command again first")
    elif is_path(model):
        check_run(f"{role}=", Path(model))
    elif ":" not in model and model not in BARE_NAMES:
        run = Path(RunOptions.runs) / model
        if is_run(run):
            raise InputError(f"{role}={model}: there is no model of that name; did you mean {run}?")
        raise InputError(f"{role}={model}: {unknown_name(model)}")


def is_path(model: str) -> bool:
    """Whether a model's name is a path: it has a separator, and no source such as ``timm:`` before it."""
    separated = any(mark in model for mark in ("/", os.sep)) or model in (".", "..")
    return separated and (":" not in model or re.match(r"[A-Za-z]:[\\/]", model) is not None)
