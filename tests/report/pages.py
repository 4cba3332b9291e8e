"""Made-up comparisons for the page: run folders without networks, and views with numbers of the right shapes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import yaml

from stillroom.engine.predictions import Predictions
from stillroom.engine.run_folder import RunFolder
from stillroom.report import confusions, page, summary, verdict
from stillroom.report.aggregate import Comparison, Pair, PlacedRun
from stillroom.report.metrics import Measures
from stillroom.report.views.class_alignment import align
from stillroom.report.views.class_relations import relate
from stillroom.report.views.data_uris import cam_uri, image_uri
from stillroom.report.views.example_images import ImageGroup, ImagePrediction, Sample, Samples
from stillroom.report.views.feature_plane import Layout, Plane
from stillroom.report.views.ranking import ranking_of

EPOCHS = 12
PER_CLASS = 5


def made_run(folder: Path, name: str, classes, method="kd", seed=0, last=50.0, **settings) -> RunFolder:
    path = folder / name
    path.mkdir(parents=True)
    rows = [
        {"epoch": i + 1, "val_top1": last * (i + 1) / EPOCHS, "agreement": last / 2, "images_per_second": 100.0}
        for i in range(EPOCHS)
    ]
    config = {
        "teacher": "runs/big", "student": "small", "method": method, "data": "made", "epochs": EPOCHS, "batch_size": 2,
        "optimizer": "sgd", "lr": 0.1, "schedule": "cosine", "weight_decay": 0.1, "seed": seed, "name": name,
    }  # fmt: skip
    inputs = {"classes": list(classes), "train_images": 1000, "val_images": PER_CLASS * len(classes)}
    environment = {
        "versions": {"torch": "1"}, "python": "3", "platform": "p", "gpu": None, "cpu": "c", "threads": 2,
        "command": ["/somewhere/stillroom", "distill", "--method", method],
    }  # fmt: skip
    (path / "config.yaml").write_text(yaml.safe_dump({**config, **settings}))
    (path / "inputs.json").write_text(json.dumps(inputs))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "summary.json").write_text(
        json.dumps({"parameters": 1234567, "best": rows[-1], "last": rows[-1], "seconds": 90.0, "exported": "last"})
    )
    (path / "environment.json").write_text(json.dumps(environment))
    return RunFolder(path)


def made_comparison(tmp_path: Path, monkeypatch, classes, methods, seeds=2, pairs=1, published=None) -> Comparison:
    """Methods in rising order of accuracy, compared with the first; what networks would say is drawn at random."""

    def number(run: RunFolder) -> int:
        return int(run.path.name.split("-")[1])

    def says(run: RunFolder) -> Predictions:
        labels = torch.arange(PER_CLASS * len(classes)) % len(classes)
        noise = torch.randn(len(labels), len(classes), generator=torch.Generator().manual_seed(number(run)))
        return Predictions(
            noise + 2 * torch.nn.functional.one_hot(labels, len(classes)), labels, torch.arange(len(labels))
        )

    def measured(run: RunFolder) -> Measures:
        last = float(run.epochs()[-1]["val_top1"])
        correct = says(run).correct.reshape(PER_CLASS, len(classes)).double().mean(0)
        return Measures(
            last=last, best=last + 0.5, best_epoch=11, ece=3.0, agreement=60.0, kl_to_teacher=0.4, val_loss=1.0,
            per_class=tuple(100 * correct.numpy()), parameters=1234567, macs=41_000_000, seconds=90.0 + number(run),
            images_per_second=100.0, peak_memory=None,
        )  # fmt: skip

    monkeypatch.setattr(summary, "measure", measured)
    monkeypatch.setattr(summary, "predictions_of", says)
    monkeypatch.setattr(verdict, "teacher_trouble", lambda run: "")
    monkeypatch.setattr(confusions, "predictions_of", says)
    found = []
    for p in range(pairs):
        cells = []
        for m, method in enumerate(methods):
            for seed in range(seeds):
                last = 40.0 + 3 * m + 0.2 * seed + 0.1 * (m * seed % 3)
                run = made_run(tmp_path / f"pair{p}", f"run-{m}-s{seed}", classes, method, seed, last)
                cells.append(PlacedRun(run, method, seed))
        found.append(Pair("big", f"small{p}", None, tuple(cells), published or {}))
    return Comparison("A made-up comparison", tuple(found), methods[0], ("run-9-s0",))


def made_views(classes, methods, samples=24, side=96) -> page.Views:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(PER_CLASS * len(classes)) % len(classes)

    def logits() -> torch.Tensor:
        return torch.randn(len(labels), len(classes), generator=generator)

    teacher, students = logits(), {method: logits() for method in methods}

    def prediction(correct: bool) -> ImagePrediction:
        depth = min(7, len(classes))
        top = tuple((classes[i], round(1 / (i + 2), 4)) for i in range(depth))
        return ImagePrediction(top, correct, 0.5, cam_uri(torch.rand(8, 8, generator=generator)))

    def sample(place: int) -> Sample:
        image = torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8)
        says = {method: prediction(bool(i % 2)) for i, method in enumerate(methods)}
        return Sample(place, image_uri(image), classes[place % len(classes)], prediction(True), says)

    def layout(name: str) -> Layout:
        points = 2 * torch.rand(600, 2, generator=generator) - 1
        return Layout(tuple(map(tuple, points.tolist())), 0.5, f"{name}: half are of their own class.")

    shown = tuple(classes[:10])
    return page.Views(
        alignment=align(teacher, students, classes),
        relations=relate(labels, classes, teacher, students, {m: ranking_of("kd", len(classes)) for m in methods}),
        samples=Samples((ImageGroup("chosen", 99, tuple(map(sample, range(samples)))),), len(labels), 7, ()),
        plane=Plane(
            shown, tuple(i % len(shown) for i in range(600)), layout("teacher"), {m: layout(m) for m in methods}
        ),
    )  # fmt: skip
