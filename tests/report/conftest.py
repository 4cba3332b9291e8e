"""A comparison small enough to train in seconds; tests that change it work on a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from stillroom.api import run_recipe
from stillroom.config import make_recipe
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
