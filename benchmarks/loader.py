"""Stillroom's loader of JPEGs against the decoder alone, and against torchvision's ImageFolder.

500x375 JPEGs of quality 90 from ``python -m benchmarks photos``; a random crop of 0.08 to 1 of the area at 224 pixels,
a flip, normalised float32 batches on the CPU. Also from the shards of ``stillroom pack`` (256 pixels).

The decoder alone, simplejpeg, decodes the same bytes in as many processes as the loader has workers, so cores are
loaded alike. Rates per core of the wall clock count the worker processes only. The main process flips and normalises,
which a GPU would do; the second table counts its processor time too, and all ratios there are of processor time.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import simplejpeg
import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.harness import Spread, make_parser, print_header, print_table
from stillroom.data import Augment, Loader, load_data
from stillroom.data.file_set import FileSet
from stillroom.data.pack import pack
from stillroom.data.photo_generator import write_photos
from stillroom.input_format import InputFormat

FORMAT = InputFormat((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BATCH, SIZE = 64, 224
TARGETS = (
    ("folder", "decoder alone", 0.85),
    ("folder", "torchvision ImageFolder", 1.5),
    ("packed shards", "torchvision ImageFolder", 3.0),
)


@dataclass(frozen=True)
class Cost:
    """Seconds of one pass: wall clock, the processor time of workers, and of the main process."""

    wall: float
    workers: float
    main: float


def main(arguments: list[str]) -> None:
    parser = make_parser("loader", __doc__, rounds=5, threads=None)
    parser.add_argument("--images", type=int, default=1024, help="in a pass; default 1024")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="default 1 2")
    parser.add_argument("--epochs", type=int, default=20, help="over which memory is measured; default 20")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print_header("Loading JPEGs")
    with tempfile.TemporaryDirectory(prefix="loader-", dir=Path.home()) as folder:
        root, packed = Path(folder) / "photos", Path(folder) / "packed"
        write_photos(root, classes=8, per_class=max(2, options.images // 8), val_per_class=1)
        pack(root, packed)
        os.environ["STILLROOM_CACHE"] = folder
        sources = {"folder": load(root), "packed shards": load(packed)}
        for workers in options.workers:
            report(measure(root / "train", sources, workers, options.rounds), workers, len(sources["folder"]))
        report_resuming(sources["folder"])
        report_memory(sources["folder"], options.epochs)


def load(folder: Path) -> FileSet:
    """The training images of a folder, as files."""
    train = load_data(folder, image_size=SIZE, source="files").train
    assert isinstance(train, FileSet)
    return train


def measure(train: Path, sources: dict[str, FileSet], workers: int, rounds: int) -> dict[str, list[Cost]]:
    """Cost of each pass, by reader, interleaved; the first round warms up."""
    encoded = [path.read_bytes() for path in sorted(train.glob("*/*.JPEG"))]
    calls: dict[str, Callable[[], None]] = {
        "decoder alone": lambda: decode_in_processes(encoded, workers),
        **{name: stillroom_pass(source, workers) for name, source in sources.items()},
        "torchvision ImageFolder": image_folder(train, workers),
    }
    taken: dict[str, list[Cost]] = {name: [] for name in calls}
    for number in range(-1, rounds):
        for name, call in calls.items():
            cost = costed(call)
            if number >= 0:
                taken[name].append(cost)
        print(f"{workers} workers: round {number + 1} of {rounds}", file=sys.stderr)
    return taken


def costed(call: Callable[[], object]) -> Cost:
    """Run a pass whose processes end with it."""
    gc.collect()
    before, main, wall = _of_children(), time.process_time(), time.perf_counter()
    call()
    return Cost(time.perf_counter() - wall, _of_children() - before, time.process_time() - main)


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(taken: dict[str, list[Cost]], workers: int, images: int) -> None:
    """Print what each reader took, and the ratios."""
    rows = []
    for name, costs in taken.items():
        cells = [Spread.of([getattr(cost, part) for cost in costs]).median for part in ("wall", "workers", "main")]
        rows.append(
            [name, f"{images / cells[0] / workers:,.0f}", *(f"{1e6 * cell / images:,.0f}" for cell in cells[1:])]
        )
    print(f"## {workers} worker{'s' * (workers > 1)}\n")
    print_table(
        ["reader", "images/s per worker", "processor time of workers, us an image", "of the main process"], rows
    )
    print_table(
        ["images/s", "wall clock, per worker", "per second of the workers' processor time",
         "per second of all processor time", "target", "by wall clock", "by the workers' time"],
        [ratio_row(taken, *target) for target in TARGETS],
    )  # fmt: skip


def ratio_row(taken: dict[str, list[Cost]], fast: str, slow: str, target: float) -> list[str]:
    """How many times as fast one reader is as another, in three measures."""
    pairs = list(zip(taken[slow], taken[fast], strict=True))
    measures = (lambda cost: cost.wall, lambda cost: cost.workers, lambda cost: cost.workers + cost.main)
    spreads = [Spread.of([measure(a) / measure(b) for a, b in pairs]) for measure in measures]
    met = ["met" if spread.median >= target else "MISSED" for spread in spreads[:2]]
    return [f"{fast} / {slow}", *(spread.text() for spread in spreads), f"≥ {target:g}", *met]


def decode_in_processes(encoded: list[bytes], workers: int) -> None:
    """Decode and do nothing else, in forked processes."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=decode_all, args=(encoded[number::workers],)) for number in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def decode_all(encoded: list[bytes]) -> None:
    """Decode images of memory, one after another."""
    for data in encoded:
        simplejpeg.decode_jpeg(data)


def make_loader(source: FileSet, workers: int, batch_size: int = BATCH) -> Loader:
    """Stillroom's loader, as a training run has it."""
    augment = Augment(pad=0, flip=True, min_scale=0.08)
    return Loader(
        source, batch_size=batch_size, input_format=FORMAT, augment=augment, shuffle=True, channels_last=True,
        workers=workers,
    )  # fmt: skip


def stillroom_pass(source: FileSet, workers: int) -> Callable[[], None]:
    """An epoch of Stillroom's loader, each time the next."""
    loader = make_loader(source, workers)
    epochs = iter(range(1, 10**9))
    return lambda: drain(loader.epoch(next(epochs)))


def image_folder(folder: Path, workers: int) -> Callable[[], None]:
    """A pass of torchvision's own loader."""
    changes = [
        transforms.RandomResizedCrop(SIZE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(FORMAT.mean, FORMAT.std),
    ]
    images = ImageFolder(str(folder), transforms.Compose(changes))
    loader: DataLoader[Any] = DataLoader(images, batch_size=BATCH, shuffle=True, num_workers=workers)
    return lambda: drain(iter(loader))


def drain(batches: Iterator[Any]) -> None:
    """Take every batch."""
    for _ in batches:
        pass


def report_resuming(source: FileSet, entries: int = 1_000_000) -> None:
    """Start an epoch of a long set and resume it in the middle, each up to its first batch."""
    loader = make_loader(repeated(source, entries), workers=1)
    seconds: dict[int, list[float]] = {0: [], len(loader) // 2: []}
    for _ in range(5):
        for step, taken in seconds.items():
            begin = time.perf_counter()
            batches = loader.epoch(1, step)
            next(batches)
            taken.append(time.perf_counter() - begin)
            batches.close()  # type: ignore[attr-defined]
    rows = [[f"step {step:,}", Spread.of(taken).text()] for step, taken in seconds.items()]
    print(f"## First batch of an epoch of {entries:,} entries, 1 worker\n")
    print_table(["start at", "seconds"], rows)


def repeated(source: FileSet, entries: int) -> FileSet:
    """The same images again and again, under ids of their own."""
    places = torch.arange(entries) % len(source)
    return replace(source.at(places), ids=torch.arange(entries))


def report_memory(source: FileSet, epochs: int) -> None:
    """Resident memory of this process and of its workers after short epochs."""
    import psutil

    loader = make_loader(source.at(torch.arange(min(256, len(source)))), workers=2, batch_size=32)
    own, theirs = [], []
    for epoch in range(1, epochs + 1):
        for number, _ in enumerate(loader.epoch(epoch)):
            if number == len(loader) - 2:
                children = psutil.Process().children()
                theirs.append(sum(child.memory_info().rss for child in children) / 1e6)
        own.append(psutil.Process().memory_info().rss / 1e6)
    middle = epochs // 2
    rows = [[name, f"{max(values[:middle]):,.0f}", f"{max(values[middle:]):,.0f}"]
            for name, values in (("main process", own), ("2 workers, with what they share", theirs))]  # fmt: skip
    print(f"## Resident memory over {epochs} epochs, MB\n")
    print_table(["process", f"most in epochs 1 to {middle}", f"most in epochs {middle + 1} to {epochs}"], rows)
