from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import stillroom
from stillroom.engine.run_folder import RunFolder
from stillroom.export import export
from stillroom.restore import dataset_of

CLASSES, PER_CLASS, SIZE = 4, 18, 32
FAST = {"epochs": 1, "batch_size": 16, "lr": 0.01, "accelerator": "cpu", "precision": "32", "image_size": SIZE}


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """A folder with an image folder for each of four colours: 48 training and 24 validation images."""
    folder = tmp_path_factory.mktemp("images") / "colours"
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(40, 216, (CLASSES, 3, 1, 1), generator=generator)
    for index in range(CLASSES):
        for number in range(PER_CLASS):
            place = folder / ("val" if number % 3 == 0 else "train") / f"colour {index}"
            place.mkdir(parents=True, exist_ok=True)
            noise = torch.randint(-40, 40, (3, SIZE, SIZE), generator=generator)
            pixels = (colours[index] + noise).clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
            Image.fromarray(pixels.numpy()).save(place / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def make_run(images, tmp_path_factory):
    """A finished run for a student, from a teacher that all share; made once for each."""
    folder = tmp_path_factory.mktemp("runs")
    made: dict[str, RunFolder] = {}
    common = {"data": str(images), "runs": str(folder), **FAST}

    def make(student: str, method: str = "kd") -> RunFolder:
        if "teacher" not in made:
            made["teacher"] = stillroom.train(
                model="stillroom.models.demo_nets:medium", name="teacher", **common
            ).record
        if student == "teacher":
            return made["teacher"]
        if f"{student} {method}" not in made:
            teacher = str(made["teacher"].path)
            found = stillroom.distill(teacher=teacher, student=student, method=method, **common)
            made[f"{student} {method}"] = found.record
        return made[f"{student} {method}"]

    return make


# The zoo, the demo's student, one model each of timm and torchvision, and the teacher's classifier in a student.
STUDENTS = {
    "resnet8": "kd",
    "stillroom.models.demo_nets:small": "kd",
    "timm:test_vit": "kd",
    "torchvision:shufflenet_v2_x0_5": "kd",
    "resnet14": "simkd",
}


def silent(_line):
    pass


@pytest.fixture(scope="session")
def made(make_run, tmp_path_factory):
    """An export of each student, without speed, made once."""
    results = {}

    def make(student):
        if student not in results:
            run = make_run(student, STUDENTS[student])
            out = tmp_path_factory.mktemp("exports") / "out"
            results[student] = (run, export(run, out, latency=False, say=silent))
        return results[student]

    return make


def validation_images(run, count):
    data = dataset_of(run)
    images = data.val.images[torch.arange(count) % len(data.val)].float() / 255
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
    return (images - mean) / std
