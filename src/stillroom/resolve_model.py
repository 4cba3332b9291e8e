"""Model resolution: build a model from a name, a user's function, or the run folder of a finished run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.data import DataSet
from stillroom.engine.run_folder import RunFolder, trained_model
from stillroom.errors import InputError
from stillroom.models import BARE_NAMES, build_model, load_weights, without_weights
from stillroom.models.backbone import build_backbone
from stillroom.models.classifier_head import last_layers
from stillroom.models.detectors import build_detector
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


@dataclass(frozen=True)
class Fit:
    """What a model is built for.

    Attributes:
        classes: the names of its classes, one for each logit; None for the classes of its weights; empty for a network
            without a classifier (:func:`stillroom.models.backbone.build_backbone`).
        channels: of the images.
        size: height and width of the images in pixels; None for the model's own.
        task: a key of :data:`stillroom.scores.SCORES`.
    """

    classes: tuple[str, ...] | None
    channels: int
    size: tuple[int, int] | None
    task: str = "classification"

    @classmethod
    def of(cls, data: DataSet) -> Fit:
        """A data set's classes, and its images as the trained model takes them."""
        channels, height, width = data.input_shape
        return cls(data.train.classes, channels, (height, width), data.task)


def build(
    role: str,
    model: ModelLike,
    fit: Fit,
    checkpoint: str | None,
    pretrained: bool,
    trust: Trust,
    *,
    new_head: bool | None = None,
) -> nn.Module:
    """Build a model, or load one from its run folder.

    Args:
        role: "student" or "teacher", for messages.
        model: a module, a name, or a run folder.
        fit: classes, channels and image size.
        checkpoint: file of weights, or None.
        pretrained: whether to load the library's pretrained weights.
        trust: the permissions for ``model``.
        new_head: whether the head starts with zeros where those of the checkpoint or run are for other classes;
            None where the role has no such setting.

    Raises:
        UntrustedError: ``trust`` does not permit to import or download ``model``.
        InputError: the model cannot be built or does not fit the data; the message names the role.
    """
    if isinstance(model, str) and is_run(model):
        return _from_run(role, RunFolder(Path(model), trust), fit, checkpoint, new_head)
    origin = trust.of(model) if isinstance(model, str) else TYPED
    try:
        if fit.task == "detection":
            return build_detector(
                model, fit.classes or (), checkpoint=checkpoint, pretrained=pretrained, new_head=new_head, origin=origin
            )
        if fit.classes == ():
            return build_backbone(
                model,
                in_channels=fit.channels,
                image_size=fit.size,
                checkpoint=checkpoint,
                pretrained=pretrained,
                origin=origin,
            )
        return build_model(
            model,
            num_classes=None if fit.classes is None else len(fit.classes),
            in_channels=fit.channels,
            image_size=fit.size,
            checkpoint=checkpoint,
            new_head=new_head,
            pretrained=pretrained,
            origin=origin,
        )
    except InputError as error:
        raise naming(role, error) from error


def _from_run(role: str, run: RunFolder, fit: Fit, checkpoint: str | None, new_head: bool | None) -> nn.Module:
    """The student of a finished run, with the head it was trained with, or a new one for other classes."""
    config = run.config()
    if not run.finished:
        raise InputError(f"{role}={run.path}: this run is not finished; run its command again first")
    task = config.get("task", "classification")
    if task != fit.task:
        raise InputError(f"{role}={run.path} was trained for {task}, and the data is for {fit.task}; give another run")
    classes = list(fit.classes or ())
    new_head = new_head and config["classes"] != classes  # None stays None
    _check_classes(role, run, config, classes, new_head)
    followed(str(run.path), run.trust)
    name = trained_model(config)
    if was_handed_in(name):
        raise InputError(
            f"{role}={run.path}: its model was handed in as a module ({name}) and cannot be built from a name; pass "
            "the module itself from Python, or train with the name of a function, package.module:function"
        )
    trust = run.trust.inside(run.path)
    if fit.task == "detection":  # whether its norms are frozen follows from the weights
        weights = checkpoint or str(run.student)
        return build(role, without_weights(name), fit, weights, pretrained=False, trust=trust, new_head=new_head)
    # The weights of a run that this one began with are replaced below, so that its classes may be other ones.
    model = build(role, without_weights(name), fit, None, pretrained=False, trust=trust, new_head=True)
    model = rewrapped(model, config, len(classes))
    fresh = _head_of(model) if new_head else {}
    try:
        load_weights(model, checkpoint or str(run.student), new_head=new_head)
    except InputError as error:
        raise InputError(f"{role}: {error}") from error
    model.load_state_dict(fresh, strict=False)  # equally many classes may be other ones
    return model


def _check_classes(
    role: str, run: RunFolder, config: Mapping[str, Any], classes: list[str], new_head: bool | None
) -> None:
    """Refuse a run whose head does not fit the classes of the data, unless it can be and is replaced."""
    trained = config["classes"]
    if new_head and config.get("reused_head"):
        raise InputError(
            f"new_head=true: {role}={run.path} ends in its teacher's classifier, which is never trained; start from "
            "another run"
        )
    if not new_head and len(trained) == len(classes) and trained != classes:
        differ = next(pair for pair in zip(trained, classes, strict=True) if pair[0] != pair[1])
        fix = "; give new_head=true to train it for the data's" if new_head is not None else ""
        raise InputError(
            f"{role}={run.path} was trained on other classes ({differ[0]!r} where the data has {differ[1]!r}){fix}"
        )


def _head_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the head's weights, by name."""
    layers = tuple(f"{name}." for name in last_layers(model))
    return {name: value.clone() for name, value in model.state_dict().items() if name.startswith(layers)}


def fingerprint(model: nn.Module) -> str:
    """Hash of a model's weights and buffers, sixteen hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
