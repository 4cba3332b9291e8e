"""The model of an export: how its architecture is recorded, and how it is loaded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from stillroom.errors import InputError, first_line
from stillroom.export.source_run import SourceRun
from stillroom.models import build_model, load_weights
from stillroom.models.detectors import build_detector
from stillroom.models.student_wrapper import rewrapped
from stillroom.reading import read_json
from stillroom.trust import Trust

FORMAT = "stillroom-export-1"
KINDS: dict[str, Any] = {"library": str, "architecture": str, "model": str, "classes": list, "input": dict,
                         "weights": str, "made_from": str, "reused_head": dict | None}  # fmt: skip


class Architecture(NamedTuple):
    """A model's library, and its name there.

    Attributes:
        library: stillroom (the zoo), timm, torchvision, function (package.module:function) or module (handed in).
        name: as the library calls it.
        arguments: those with which timm or torchvision build it alone; None where only stillroom can.
    """

    library: str
    name: str
    arguments: dict[str, Any] | None


def architecture_of(source: SourceRun) -> Architecture:
    """Find the library that can build the student alone."""
    library, colon, name = source.model.partition(":")
    if source.given:
        return Architecture("module", source.model, None)
    if not colon:
        return Architecture("stillroom", source.model, None)
    if library not in ("timm", "torchvision"):
        return Architecture("function", source.model, None)
    channels, height, width = source.shape
    counts: dict[str, Any] = {"num_classes": len(source.data.train.classes)}
    if library == "timm":
        counts["in_chans"] = channels
    sizes = {"timm": "img_size", "torchvision": "image_size"}
    for arguments in ({**counts, sizes[library]: width if height == width else (height, width)}, counts):
        if _builds_alone(library, name, arguments, source.student):
            return Architecture(library, name, arguments)
    return Architecture(library, name, None)


def _builds_alone(library: str, name: str, arguments: dict[str, Any], student: nn.Module) -> bool:
    """Whether the library makes a model with these arguments that has the student's tensors."""
    try:
        with torch.random.fork_rng(devices=[]):
            made = _create(library, name, arguments)
    except Exception:  # noqa: BLE001  an argument that this architecture does not take
        return False
    theirs, ours = made.state_dict(), student.state_dict()
    return {k: v.shape for k, v in theirs.items()} == {k: v.shape for k, v in ours.items()}


def _create(library: str, name: str, arguments: dict[str, Any]) -> nn.Module:
    if library == "timm":
        import timm

        made: nn.Module = timm.create_model(name, **arguments)
        return made
    import torchvision

    models: Any = torchvision.models  # exports its functions without saying so to type checkers
    model: nn.Module = models.get_model(name, **arguments)
    return model


def load(
    folder: str | Path, model: nn.Module | None = None, *, trust: bool = False
) -> tuple[nn.Module, dict[str, Any]]:
    """Load an exported student.

    Args:
        folder: where ``config.json`` and ``model.safetensors`` lie.
        model: a module built as the student was, for a student that was handed in as a module.
        trust: whether a model that ``config.json`` names may be imported (``package.module:function``) or fetched.

    Returns:
        The student in evaluation mode on the CPU, and its ``config.json``.

    Raises:
        InputError: the folder holds no export, or its student cannot be built.
    """
    folder = Path(folder)
    config = read_export_config(folder)
    if config is None:
        raise InputError(f"{folder} holds no export: give the folder that stillroom export wrote")
    if model is None and config["library"] == "module":
        raise InputError(
            f"{folder}: its student was handed in as a module ({config['architecture']}); build one like it and call "
            "load(folder, model=MODULE)"
        )
    classes = len(config["classes"])
    origin = Trust(files=trust, source=str(folder / "config.json")).of(config["model"])
    if model is None and config.get("task") == "detection":
        model = build_detector(config["model"], config["classes"], origin=origin)
    elif model is None:
        shape = config["input"]
        model = build_model(
            config["model"],
            num_classes=classes,
            in_channels=shape["channels"],
            image_size=(shape["height"], shape["width"]),
            origin=origin,
        )
    model = rewrapped(model, config, classes)
    load_weights(model, folder / "model.safetensors")
    if config.get("task") == "detection":
        transform: Any = model.transform
        transform.image_mean, transform.image_std = config["mean"], config["std"]
    return model.eval(), config


def read_export_config(folder: Path) -> dict[str, Any] | None:
    """The ``config.json`` of an export; None where there is none of ours.

    Raises:
        InputError: it cannot be read.
    """
    try:
        config = read_json(folder / "config.json")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{folder / 'config.json'} cannot be read ({first_line(error)})") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        return None
    for name, kind in KINDS.items():
        if not isinstance(config.get(name), kind):
            raise InputError(f"{folder / 'config.json'} cannot be read ({name} cannot be {str(config.get(name))[:60]})")
    if not all(type(config["input"].get(side)) is int for side in ("channels", "height", "width")):
        raise InputError(f"{folder / 'config.json'} cannot be read (input has no channels, height and width)")
    return config
