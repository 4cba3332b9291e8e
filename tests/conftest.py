"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from stillroom.data import Augment, DataSet, ImageSet
from stillroom.runtime import device

torch.set_num_threads(1)
# Stillroom sets this before it imports Ray, but a test that asks whether Ray is installed imports it before that.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
# A test that names no precision computes in float32, whatever the processor could do, and so do the processes that
# import this file. A test of bf16 says precision="bf16", which every processor can.
native_bf16 = device.has_native_bf16
device.has_native_bf16 = lambda _kind: False


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores: some tests wait for other processes, and no core should wait with them."""
    return len(os.sched_getaffinity(0)) + 1


# The files that take longest, longest first. A worker takes a file at a time: begun last, these would leave the other
# workers idle at the end.
LONGEST = (
    "test_two_ray_nodes.py", "compare/test_compare.py", "methods/test_connect.py", "engine/test_data_parallel.py",
    "compare/test_ray.py", "durability/test_kill.py", "tune/test_tune.py", "losses/test_contract.py",
    "test_tutorial.py", "losses/feature/test_contract.py", "runtime/test_distributed.py", "test_demo.py",
    "engine/test_loop.py", "losses/test_fuzz.py", "export/test_card_snippets.py", "test_slurm.py",
    "test_detection_processes.py", "test_image_prediction.py", "losses/logit/test_ldrld.py",
    "losses/kernels/test_ldrld_numba.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def tiny_set(per_class: int, classes: int = 4, seed: int = 0) -> ImageSet:
    """Noisy images, each class with a colour of its own: learnable in seconds."""
    generator = torch.Generator().manual_seed(seed)
    count = per_class * classes
    labels = torch.arange(count) % classes
    colours = torch.randint(40, 216, (classes, 3, 1, 1), generator=torch.Generator().manual_seed(7))
    noise = torch.randint(-40, 40, (count, 3, 8, 8), generator=generator)
    images = (colours[labels] + noise).clamp(0, 255).to(torch.uint8)
    return ImageSet(images, labels, torch.arange(count), tuple(f"class {i}" for i in range(classes)))


def colour_folder(folder: Path, count: int, side: int) -> Path:
    """A folder of three classes, each of ``count`` noisy square images in a colour of its own."""
    generator = np.random.default_rng(0)
    for name, colour in (("red", (200, 60, 60)), ("green", (60, 200, 60)), ("blue", (60, 60, 200))):
        (folder / name).mkdir()
        for i in range(count):
            noise = generator.integers(-40, 40, (side, side, 3))
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture
def tiny_data() -> DataSet:
    """Four classes, 80 training and 40 validation images of 8x8."""
    return DataSet("tiny", tiny_set(20), tiny_set(10, seed=1), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), Augment(pad=1))


def tiny_model(num_classes: int = 4, width: int = 8) -> nn.Module:
    """A small network with batch norm and dropout, so that all kinds of state take part."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, num_classes),
    )
