"""Made-up runs of detectors: the records that a run leaves, without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from stillroom.boxes import Detections, ImageBoxes
from stillroom.engine.predictions import teacher_path
from stillroom.engine.run_folder import RunFolder
from stillroom.tasks.detections_file import StoredDetections, detections_content
from tests.report.pages import EPOCHS, made_run

CLASSES = ("ring", "disc", "letter O")
IMAGES = 10


def made_objects() -> tuple[ImageBoxes, ...]:
    """Objects in wide images of 96 x 64 pixels; the last one holds a group and nothing else."""
    generator = torch.Generator().manual_seed(0)
    images = []
    for place in range(IMAGES):
        count = 1 if place == IMAGES - 1 else 3
        corners = torch.rand(count, 2, generator=generator) * torch.tensor([60.0, 36.0])
        boxes = torch.cat([corners, corners + 16 + 8 * torch.rand(count, 2, generator=generator)], 1)
        labels = torch.arange(place, place + count) % len(CLASSES)
        images.append(ImageBoxes(boxes, labels, torch.full((count,), place == IMAGES - 1), (64, 96)))
    return tuple(images)


def found_in(objects: Sequence[ImageBoxes], quality: float, seed: int, classes: int = len(CLASSES)):
    """Detections of a detector that finds a fraction of the objects, and as many others the worse it is."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for image in objects:
        there = torch.rand(len(image), generator=generator) < quality
        moved = image.boxes[there] + 2 * (torch.rand(int(there.sum()), 4, generator=generator) - 0.5)
        others = image.boxes[~there] + torch.tensor([0.0, 12, 12, 24])
        labels = torch.cat([image.labels[there], (image.labels[~there] + 1) % classes])
        scores = 0.2 + 0.8 * torch.rand(len(labels), generator=generator)
        order = scores.argsort(descending=True)
        found.append(Detections(torch.cat([moved, others])[order], scores[order], labels[order]))
    return tuple(found)


def keep_detections(run: RunFolder, objects: Sequence[ImageBoxes], quality: float, seed: int, path=None) -> None:
    """Write what a run's student finds, or at ``path`` what its teacher does."""
    found = found_in(objects, quality, seed, len(run.config()["classes"]))
    (path or run.predictions).write_bytes(
        detections_content(StoredDetections(found, tuple(objects), torch.arange(len(objects))))
    )


def scores(ap: float) -> dict[str, float]:
    """The scores of an epoch in percent; there are no large objects."""
    parts = {"ap": 1, "ap50": 1.5, "ap75": 0.9, "ap_small": 0.5, "ap_medium": 1.1}
    return {name: round(part * ap, 6) for name, part in parts.items()}


def made_box_run(
    folder: Path, name: str, method="kd", seed=0, ap=30.0, objects=None, classes=CLASSES, **settings
) -> RunFolder:
    run = made_run(folder, name, classes, method, seed, task="detection", **settings)
    rows = [
        {
            "epoch": i + 1, "lr": 0.01, "loss": 2.0 - i / EPOCHS, "terms": {"supervised": 1.5, "ldrld": 0.5},
            **{f"val_{key}": value for key, value in scores(ap * (i + 1) / EPOCHS).items()},
            "seconds": 7.5, "bank_seconds": 0.0, "images_per_second": 100.0,
        }
        for i in range(EPOCHS)
    ]  # fmt: skip
    run.write_epochs(rows)
    teacher = {"teacher": scores(42.0), "teacher_parameters": 7654321} if settings.get("teacher_weights") else {}
    run.write_summary(run.summary() | {"last": rows[-1], "best": rows[-1]} | teacher)
    objects = made_objects() if objects is None else objects
    inputs = run.path / "inputs.json"
    inputs.write_text(json.dumps(json.loads(inputs.read_text()) | {"val_images": len(objects)}))
    keep_detections(run, objects, ap / 50, 100 * seed + round(ap))
    if (path := teacher_path(run)) is not None:
        keep_detections(run, objects, 0.9, 7, path)
    return run


def made_box_runs(folder: Path, methods=("ce", "kd", "ldrld"), seeds=3, **settings) -> Path:
    """A folder of runs, methods in rising order of AP."""
    for place, method in enumerate(methods):
        for seed in range(seeds):
            ap = 30 + 2 * place + 0.2 * seed + 0.1 * (place * seed % 3)
            teacher = {"teacher_weights": "0123"} if method != "ce" else {}
            made_box_run(folder, f"{method}-s{seed}", method, seed, ap, **teacher, **settings)
    return folder
