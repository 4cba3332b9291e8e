"""The ``config.json`` of an export: all that is needed to use the student, and its provenance."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from stillroom.config import MAY_CHANGE, OptimOptions, RunOptions
from stillroom.data.augment import Augment
from stillroom.engine.run_folder import RunFolder, trained_model
from stillroom.errors import InputError
from stillroom.export.exported_model import FORMAT, Architecture
from stillroom.export.source_run import SourceRun, architecture_name
from stillroom.resolve_model import is_run


def export_config(source: SourceRun, home: Architecture) -> dict[str, Any]:
    """The content of ``config.json``, plain values."""
    channels, height, width = source.shape
    return {
        "format": FORMAT,
        "library": home.library,
        "architecture": home.name,
        "arguments": home.arguments,
        "model": source.model,
        "reused_head": source.config.get("reused_head"),
        "parameters": sum(p.numel() for p in source.student.parameters()),
        "weights": source.weights,
        "made_from": source.run.path.name,
        "input": {
            "name": "images",
            "channels": channels,
            "height": height,
            "width": width,
            "range": [0, 1],
            **_crop(source),
        },
        "mean": [float(value) for value in source.data.mean],
        "std": [float(value) for value in source.data.std],
        "output": {"name": "logits"},
        "classes": list(source.data.train.classes),
        "training": training_record(source),
    }


def _crop(source: SourceRun) -> dict[str, Any]:
    """How validation images were cropped and decoded, where that is not the default."""
    return {name: source.config[name] for name in ("crop_fraction", "scaled_decoding") if source.config.get(name)}


def training_record(source: SourceRun) -> dict[str, Any]:
    """How the student was trained; files and folders by their last name only."""
    config = source.config
    recipe = [field.name for group in (OptimOptions, RunOptions) for field in fields(group)]
    shown: dict[str, Any] = {
        "data": Path(config["data"]).name or config["data"],
        "train_images": config["train_images"],
        "val_images": config["val_images"],
        "augmentation": {known.name: config.get(known.name) for known in fields(Augment)},
        "only_classes": config.get("only_classes"),
        "first_classes": config.get("first_classes"),
        "per_class": config.get("per_class"),
    }
    taught = bool(config.get("teacher"))
    shown |= {"method": config["method"] if taught else None, "teacher": teacher_name(source) if taught else None}
    shown["started_from"] = _initial_weights(config)
    stopped = source.run.summary().get("early_stop", {})
    shown |= {"stopped_after": stopped["epoch"]} if stopped.get("stopped") else {}
    return shown | {name: config[name] for name in recipe if name in config and name not in MAY_CHANGE}


def _initial_weights(config: dict[str, Any]) -> str:
    """The weights that training began from, in words."""
    name = trained_model(config)
    if is_run(name):
        return f"the student of the run {Path(name).name}"
    start = config.get("student_checkpoint") or config.get("checkpoint")
    if start:
        return f"the weights in {Path(start).name}"
    pretrained = config.get("student_pretrained") or config.get("pretrained")
    return "published weights" if pretrained else "random weights"


def teacher_name(source: SourceRun) -> str:
    """The teacher's architecture, or its name in the run where its folder is gone."""
    name = str(source.config["teacher"])
    for folder in (Path(name), source.run.path.parent / Path(name).name):
        if is_run(folder):
            try:
                return architecture_name(RunFolder(folder, source.run.trust))
            except (InputError, KeyError):
                break
    return name if ":" in name else Path(name).name
