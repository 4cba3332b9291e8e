"""A comparison small enough to train in seconds; tests that change it work on a copy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from stillroom.api import run_recipe
from stillroom.config import make_recipe
from stillroom.engine.run_folder import RunFolder
from stillroom.report import summary
from stillroom.report.aggregate import Comparison, Pair, PlacedRun
from stillroom.report.metrics import Measures
from stillroom.runtime.reporters import Silent
from tests.conftest import tiny_set

SMALL, LARGE = "stillroom.models.demo_nets:small", "stillroom.models.demo_nets:medium"
CELLS = (("ce", 0), ("ce", 1), ("kd", 0), ("kd", 1), ("ldrld(depth=3)", 0))


def write_images(folder: Path, images) -> None:
    for place, (image, label) in enumerate(zip(images.images, images.labels.tolist(), strict=True)):
        path = folder / images.classes[label] / f"{place:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)


def trained(command: str, runs: Path, name: str, **settings):
    """Train one run on the tiny images beside ``runs``."""
    common = {
        "data": str(runs.parent / "images"), "runs": str(runs), "name": name, "epochs": 2, "batch_size": 16,
        "lr": 0.05, "schedule": "cosine", "pad": 1, "precision": "32", "accelerator": "cpu",
    }  # fmt: skip
    return run_recipe(make_recipe(command, {**common, **settings}), Silent()).record


@pytest.fixture(scope="session")
def trained_comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher, five students of two seeds and ``images`` beside it; nothing may be written there."""
    top = tmp_path_factory.mktemp("comparison")
    write_images(top / "images" / "train", tiny_set(12))
    write_images(top / "images" / "val", tiny_set(10, seed=1))
    runs = top / "runs"
    teacher = trained("train", runs, "teacher", model=LARGE, epochs=4)
    for method, seed in CELLS:
        name = f"{method.partition('(')[0]}-s{seed}"
        trained("distill", runs, name, teacher=str(teacher.path), student=SMALL, method=method, seed=seed)
    return runs


@pytest.fixture
def runs(trained_comparison: Path, tmp_path: Path) -> Path:
    """A copy of the comparison's folder, with the images and the teacher it names where they were."""
    return Path(shutil.copytree(trained_comparison, tmp_path / "runs"))


# Accuracy after the last epoch by method and seed.
LASTS = {
    "kd": {0: 70.0, 1: 71.0, 2: 70.5, 3: 70.3},
    "up": {0: 72.0, 1: 73.1, 2: 72.4, 3: 72.3},
    "same": {0: 70.3, 1: 70.6, 2: 70.9, 3: 70.4},
    "down": {0: 68.0, 1: 69.2, 2: 68.4, 3: 68.2},
}


def measures(last, **changes):
    known = {
        "last": last, "best": last + 0.5, "best_epoch": 3, "ece": 5.0, "agreement": 80.0, "kl_to_teacher": 0.25,
        "val_loss": 1.0, "per_class": (last - 10, last + 10), "parameters": 10, "macs": 20, "seconds": 65.0,
        "images_per_second": 9.0, "peak_memory": None,
    }  # fmt: skip
    return Measures(**{**known, **changes})


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """Summaries of made-up accuracies; the runs are folders that hold their settings only."""

    def make(lasts, reference="kd", published=None, exported="last", **changes):
        cells, by_path = [], {}
        for method, by_seed in lasts.items():
            for seed, last in by_seed.items():
                run = RunFolder(tmp_path / f"{method}-{seed}")
                run.path.mkdir(exist_ok=True)
                (run.path / "config.yaml").write_text("{}")
                (run.path / "inputs.json").write_text("{}")
                (run.path / "summary.json").write_text(json.dumps({"exported": exported}))
                cells.append(PlacedRun(run, method, seed))
                by_path[run.path] = measures(last, **changes)
        pair = Pair("resnet56", "resnet20", None, tuple(cells), published or {})
        monkeypatch.setattr(summary, "measure", lambda run: by_path[run.path])
        (got,) = summary.summarize(Comparison("t", (pair,), reference, ()))
        return got

    return make


def method_of(summary, name):
    return next(method for method in summary.methods if method.method == name)
