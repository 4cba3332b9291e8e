"""Model resolution: build a model from a name, a user's function, or the run folder of a finished run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from stillroom.data import DataSet
from stillroom.engine.run_folder import RunFolder, trained_model
from stillroom.errors import InputError
from stillroom.models import BARE_NAMES, build_model, load_weights, without_weights
from stillroom.models.student_wrapper import rewrapped
from stillroom.trust import TYPED, Trust, naming

ModelLike = str | nn.Module


def is_run(model: str | Path) -> bool:
    """Whether a model's name or path is a run folder, finished or not."""
    return (Path(model) / "config.yaml").is_file()


def was_handed_in(model: str) -> bool:
    """Whether a run's model was handed in as a module from Python: its class name cannot build it."""
    return not any(mark in model for mark in ":/\\") and model not in BARE_NAMES and not is_run(model)


def followed(model: str, trust: Trust) -> tuple[str, Trust]:
    """Follow run folders to the name that a model was first built from, and the trust that applies to it.

    Args:
        model: a run folder; any other name is returned unchanged.
        trust: the permissions for ``model``.

    Raises:
        InputError: a folder cannot be read, or the folders form a cycle.
    """
    seen: set[Path] = set()
    while is_run(model):
        run = Path(model)
        if run.resolve() in seen:
            raise InputError(f"{run} names itself as the model that it started from; restore its original config.yaml")
        seen.add(run.resolve())
        model, trust = trained_model(RunFolder(run).config()), trust.inside(run)
    return model, trust


def is_function(model: str) -> bool:
    """Whether a model's name is a user's function, ``package.module:function``."""
    return ":" in model and not model.startswith(("timm:", "torchvision:"))


def build(
    role: str, model: ModelLike, data: DataSet, checkpoint: str | None, pretrained: bool, trust: Trust
) -> nn.Module:
    """Build a model for a data set, or load one from its run folder.

    Args:
        role: "student" or "teacher", for messages.
        model: a module, a name, or a run folder.
        data: sets the number of classes, the channels and the image size.
        checkpoint: file of weights, or None.
        pretrained: whether to load the library's pretrained weights.
        trust: the permissions for ``model``.

    Raises:
        UntrustedError: ``trust`` does not permit to import or download ``model``.
        InputError: the model cannot be built or does not fit the data; the message names the role.
    """
    if isinstance(model, str) and is_run(model):
        return _from_run(role, RunFolder(Path(model), trust), data, checkpoint)
    height, width = data.train.images.shape[2:]
    try:
        return build_model(
            model,
            num_classes=len(data.train.classes),
            in_channels=data.train.images.shape[1],
            image_size=(height, width),
            checkpoint=checkpoint,
            pretrained=pretrained,
            origin=trust.of(model) if isinstance(model, str) else TYPED,
        )
    except InputError as error:
        raise naming(role, error) from error


def _from_run(role: str, run: RunFolder, data: DataSet, checkpoint: str | None) -> nn.Module:
    """The student of a finished run, with the classifier it was trained with."""
    config = run.config()
    if not run.finished:
        raise InputError(f"{role}={run.path}: this run is not finished; run its command again first")
    trained, classes = config["classes"], list(data.train.classes)
    if len(trained) == len(classes) and trained != classes:
        differ = next(pair for pair in zip(trained, classes, strict=True) if pair[0] != pair[1])
        raise InputError(
            f"{role}={run.path} was trained on other classes ({differ[0]!r} where the data has {differ[1]!r})"
        )
    followed(str(run.path), run.trust)
    name = trained_model(config)
    if was_handed_in(name):
        raise InputError(
            f"{role}={run.path}: its model was handed in as a module ({name}) and cannot be built from a name; pass "
            "the module itself from Python, or train with the name of a function, package.module:function"
        )
    model = build(role, without_weights(name), data, None, pretrained=False, trust=run.trust.inside(run.path))
    model = rewrapped(model, config, len(classes))
    try:
        load_weights(model, checkpoint or str(run.student))
    except InputError as error:
        raise InputError(f"{role}: {error}") from error
    return model


def fingerprint(model: nn.Module) -> str:
    """Hash of a model's weights and buffers, sixteen hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
