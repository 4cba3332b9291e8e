"""The ``config.json`` of an export: everything that is needed to use the student, and where it comes from."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from stillroom.config import MAY_CHANGE, OptimOptions, RunOptions
from stillroom.engine.run_folder import RunFolder, trained_model
from stillroom.errors import InputError
from stillroom.export.exported_model import FORMAT, Architecture
from stillroom.export.source_run import Subject, architecture_name
from stillroom.resolve import is_run


def describe(subject: Subject, home: Architecture) -> dict[str, Any]:
    """Plain values for ``config.json``."""
    channels, height, width = subject.shape
    return {
        "format": FORMAT,
        "library": home.library,
        "architecture": home.name,
        "arguments": home.arguments,
        "model": subject.model,
        "reused_head": subject.config.get("reused_head"),
        "parameters": sum(p.numel() for p in subject.student.parameters()),
        "weights": subject.weights,
        "made_from": subject.run.path.name,
        "input": {"name": "images", "channels": channels, "height": height, "width": width, "range": [0, 1]},
        "mean": [float(value) for value in subject.data.mean],
        "std": [float(value) for value in subject.data.std],
        "output": {"name": "logits"},
        "classes": list(subject.data.train.classes),
        "training": training(subject),
    }


def training(subject: Subject) -> dict[str, Any]:
    """How the student was trained; files and folders by their last name, for others have other disks."""
    config = subject.config
    recipe = [field.name for group in (OptimOptions, RunOptions) for field in fields(group)]
    shown: dict[str, Any] = {
        "data": Path(config["data"]).name or config["data"],
        "train_images": config["train_images"],
        "val_images": config["val_images"],
        "augmentation": {name: config.get(name) for name in ("pad", "flip", "rotate", "min_scale")},
        "first_classes": config.get("first_classes"),
        "per_class": config.get("per_class"),
    }
    taught = bool(config.get("teacher"))
    shown |= {"method": config["method"] if taught else None, "teacher": teacher_name(subject) if taught else None}
    shown["started_from"] = _beginning(config)
    return shown | {name: config[name] for name in recipe if name in config and name not in MAY_CHANGE}


def _beginning(config: dict[str, Any]) -> str:
    """Which weights training began from."""
    name = trained_model(config)
    if is_run(name):
        return f"the student of the run {Path(name).name}"
    start = config.get("student_checkpoint") or config.get("checkpoint")
    if start:
        return f"the weights in {Path(start).name}"
    pretrained = config.get("student_pretrained") or config.get("pretrained")
    return "published weights" if pretrained else "random weights"


def teacher_name(subject: Subject) -> str:
    """The teacher's architecture, or what the run called it where its folder is gone."""
    name = str(subject.config["teacher"])
    for folder in (Path(name), subject.run.path.parent / Path(name).name):
        if is_run(folder):
            try:
                return architecture_name(RunFolder(folder, subject.run.trust))
            except (InputError, KeyError):
                break
    return name if ":" in name else Path(name).name
