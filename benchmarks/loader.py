"""Decoding and random crops of JPEGs against the decoder alone, and against torchvision's ImageFolder.

500x375 JPEGs of quality 90 from ``python -m benchmarks photos``, RandomResizedCrop 224 of 0.08 to 1 of the area. The
decoder alone and decode_framed run in this process, in one thread; the DataLoader has workers, and flips and
normalises too. Rates are per process that decodes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.harness import compare, make_parser, print_header, print_table
from stillroom.data.framing import Framing, decode_framed
from stillroom.data.photo_generator import write_photos

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TARGETS = {"decode_framed / decoder alone": 0.85, "decode_framed / torchvision ImageFolder": 1.5}


def main(arguments: list[str]) -> None:
    parser = make_parser("loader", __doc__, rounds=9, threads=None)
    parser.add_argument("--images", type=int, default=1024, help="in a round; default 1024")
    parser.add_argument("--workers", type=int, default=2, help="of the DataLoader; default 2")
    parser.add_argument("--size", type=int, default=224, help="side of the crops; default 224")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print_header("Decoding and cropping JPEGs")
    with tempfile.TemporaryDirectory() as folder:
        classes = 8
        write_photos(folder, classes=classes, per_class=max(1, options.images // classes), val_per_class=0)
        train = Path(folder) / "train"
        encoded = [path.read_bytes() for path in sorted(train.glob("*/*.JPEG"))]
        calls = {
            "decoder alone": lambda: decode_all(encoded),
            "decode_framed": framed(encoded, options.size),
            "torchvision ImageFolder": image_folder(train, options.size, options.workers),
        }
        took = compare(calls, rounds=options.rounds)
    processes = {"torchvision ImageFolder": max(1, options.workers)}
    rows = [
        (name, processes.get(name, 1), f"{len(encoded) / took.median(name) / processes.get(name, 1):,.0f}")
        for name in calls
    ]
    print_table(["reader", "processes", "images/s per process"], rows)
    ratios = []
    for pair, target in TARGETS.items():
        fast, slow = pair.split(" / ")
        ratio, scale = took.ratio(slow, fast), processes.get(slow, 1) / processes.get(fast, 1)
        met = "met" if scale * ratio.median >= target else "MISSED"
        ratios.append((pair, ratio.text(scale), f"≥ {target:g}: {met}"))
    print_table(["images/s per process", "ratio", "target"], ratios)


def decode_all(encoded: list[bytes]) -> None:
    """Decode and do nothing else."""
    for data in encoded:
        simplejpeg.decode_jpeg(data)


def framed(encoded: list[bytes], size: int) -> Callable[[], None]:
    """A pass that decodes every image and writes its random crop into a batch."""
    framing = Framing(size, min_scale=0.08)
    draws = np.random.default_rng(0).random((len(encoded), 1, 4))
    batch = torch.empty((64, 3, size, size), dtype=torch.uint8).to(memory_format=torch.channels_last)

    def run() -> None:
        for number, data in enumerate(encoded):
            slot = number % len(batch)
            decode_framed(data, framing, draws[number], batch[slot : slot + 1])

    return run


def image_folder(folder: Path, size: int, workers: int) -> Callable[[], None]:
    """A pass of torchvision's own loader, whose workers stay between passes."""
    changes = [
        transforms.RandomResizedCrop(size),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    loader = DataLoader(
        ImageFolder(str(folder), transforms.Compose(changes)),
        batch_size=64,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )

    def run() -> None:
        for _ in loader:
            pass

    return run
