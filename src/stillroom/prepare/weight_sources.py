"""Where a model's weights come from, checked by name before an image is read or a model is built."""

from __future__ import annotations

import os
import re
from pathlib import Path

from torch import nn

from stillroom.config import RunOptions
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.models import ZOO
from stillroom.models.build import unknown_name
from stillroom.resolve import ModelLike, is_run
from stillroom.suggestions import suggest_path


def check_source(role: str, model: ModelLike, checkpoint: str | None, pretrained: bool) -> None:
    """Refuse a model that is not there, a run that is not finished, and weights that would be ignored.

    Args:
        role: model, teacher or student.
        model: a name, a run folder or a module.
        checkpoint: file with weights; serves any model, and takes the place of a run's own weights.
        pretrained: whether published weights are asked for; only timm and torchvision models have some.

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
        why = f"the {role} was handed in as a module and has its weights; leave {prefix}pretrained out"
    elif is_run(model):
        why = f"{role}={model} is a run folder, whose own weights are used; leave {prefix}pretrained out"
    elif model.startswith(("timm:", "torchvision:")):
        return
    else:
        why = f"there are no published weights for {role}={model}; give {prefix}checkpoint=FILE"
    raise InputError(f"{prefix}pretrained=true: {why}")


def require_weights(role: str, model: ModelLike, checkpoint: str | None, pretrained: bool) -> None:
    """Refuse a model given by a bare name, which would predict at random.

    Raises:
        InputError: naming the settings that bring weights.
    """
    if isinstance(model, nn.Module) or checkpoint or pretrained or is_run(model):
        return
    hub = model.startswith(("timm:", "torchvision:"))
    if ":" in model and not hub:  # a function may bring weights
        return
    prefix = "" if role == "model" else f"{role}_"
    published = f"{prefix}pretrained=true, " if hub else ""
    raise InputError(
        f"{role}={model} would have random weights: give {prefix}checkpoint=FILE, {published}"
        f"or as {role} the folder of a finished run"
    )


def check_run(name: str, path: Path) -> None:
    """Refuse a path that is no run folder.

    Args:
        name: what the path stands behind in the message.
        path: where the run should be.

    Raises:
        InputError: with what lies near it.
    """
    if path.is_dir() and not is_run(path):
        raise InputError(f"{name}{path}: this folder is no run, it holds no config.yaml; give the folder of a run")
    if not is_run(path):
        raise InputError(f"{name}{path}: there is no such run folder{suggest_path(path, is_run)}")


def _check_name(role: str, model: str) -> None:
    """Refuse a run folder that is not there or not finished, and a name that is not known."""
    if is_run(model):
        if not RunFolder(Path(model)).finished:
            raise InputError(f"{role}={model}: this run is not finished; run its command again first")
    elif is_path(model):
        check_run(f"{role}=", Path(model))
    elif ":" not in model and model not in ZOO:
        run = Path(RunOptions.runs) / model
        if is_run(run):
            raise InputError(f"{role}={model}: no model is called so; did you mean {run}?")
        raise InputError(f"{role}={model}: {unknown_name(model)}")


def is_path(model: str) -> bool:
    """Whether a model's name is a path: it has a separator and names no source, such as timm:, before it."""
    separated = any(mark in model for mark in ("/", os.sep)) or model in (".", "..")
    return separated and (":" not in model or re.match(r"[A-Za-z]:[\\/]", model) is not None)
