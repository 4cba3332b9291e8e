"""The loader, images from memory augmented batch by batch, against PIL transforms image by image.

Both give float batches of 32x32 images, cropped after padding by 4, flipped and normalised. One thread against a
loader in the main process, then two threads against two workers.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from benchmarks.baselines.loader import make_loader
from benchmarks.harness import compare, make_parser, print_header, print_table
from stillroom.data import Augment, ImageSet, Loader
from stillroom.input_format import InputFormat

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
FASTER = 10.0


def main(arguments: list[str]) -> None:
    parser = make_parser("data", __doc__, rounds=9, threads=None)
    parser.add_argument("--images", type=int, default=6400, help="in an epoch, which is a round; default 6400")
    parser.add_argument("--batch_size", type=int, default=64, help="default 64")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print_header("The loader against PIL transforms in a DataLoader")
    print(
        f"Epochs of {options.images} images of 32x32 in batches of {options.batch_size}, {options.rounds} "
        "interleaved rounds; medians, quartiles in brackets. Workers stay between epochs.\n"
    )
    rows = [measure(cores, workers, options) for cores, workers in ((1, 0), (2, 2))]
    print_table(["Loader", "PIL loader", "images/s", "images/s", "times as fast", "target"], rows)


def measure(cores: int, workers: int, options: object) -> list[str]:
    """One row: so many threads against so many workers."""
    torch.set_num_threads(cores)
    count, batch_size = options.images, options.batch_size
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(count) % 100
    image_set = ImageSet(images, labels, torch.arange(count), tuple(map(str, range(100))))
    ours = Loader(
        image_set, batch_size=batch_size, input_format=InputFormat(MEAN, STD), augment=Augment(pad=4, flip=True),
        shuffle=True, channels_last=True,
    )  # fmt: skip
    theirs = make_loader(images, labels, batch_size=batch_size, mean=MEAN, std=STD, workers=workers)
    calls = {"ours": lambda: drain(ours.epoch(1)), "theirs": lambda: drain(theirs)}
    took = compare(calls, rounds=options.rounds, warmup=2)
    ratio = took.ratio("theirs", "ours")
    return [
        f"{cores} thread{'s' * (cores > 1)}", f"{workers} workers" if workers else "main process",
        *(f"{count / took.median(name):,.0f}" for name in calls), ratio.text(),
        f"≥ {FASTER:g}: {'met' if ratio.median >= FASTER else 'MISSED'}",
    ]  # fmt: skip


def drain(batches: Iterable[object]) -> None:
    """Take every batch."""
    for _ in batches:
        pass
