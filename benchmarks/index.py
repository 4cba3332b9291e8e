"""A folder of a million names: scanning, the start with its index in the cache, and the first batch.

The files are empty and the index is made up, as a first start would have written it; so this measures a second start:
listing the folder, taking the index from the cache, and the first batch of a shuffled epoch with random crops, from two
workers. Every image of the batch is the same small JPEG in memory, since the files are empty. Memory is the peak of a
process of its own, PyTorch included; that of its largest worker, which shares most of it, is beside it.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.harness import make_parser, print_header, print_table
from stillroom.data import Augment, Loader, set_index
from stillroom.data.file_set import FileSet
from stillroom.data.framing import Framing
from stillroom.data.image_folder import list_image_folder
from stillroom.data.set_index import indexed
from stillroom.input_format import InputFormat

SECONDS, GIGABYTES = 5.0, 1.0


def main(arguments: list[str]) -> None:
    parser = make_parser("index", __doc__, rounds=3, threads=None)
    parser.add_argument("--images", type=int, default=1_000_000, help="default 1,000,000")
    parser.add_argument("--classes", type=int, default=1000, help="default 1,000")
    options = parser.parse_args(arguments)
    print_header("The second start on a large folder")
    folder = Path(tempfile.mkdtemp(prefix="index-", dir=Path.home()))
    try:
        make_folder(folder, options)
        rounds = [in_process(folder) for _ in range(options.rounds)]
    finally:
        shutil.rmtree(folder)
    scan, start, first = (float(np.median([taken[side] for taken in rounds])) for side in range(3))
    peak, worker = (max(taken[side] for taken in rounds) for side in (3, 4))
    met = ["met" if value < limit else "MISSED" for value, limit in ((first, SECONDS), (peak, GIGABYTES))]
    print_table(
        ["images", "listing, s", "listing and index, s", "to the first batch, s", "target", "peak memory, GB", "target",
         "of a worker, GB"],
        [[f"{options.images:,}", f"{scan:.2f}", f"{start:.2f}", f"{first:.2f}", f"< {SECONDS:g}: {met[0]}",
          f"{peak:.2f}", f"< {GIGABYTES:g}: {met[1]}", f"{worker:.2f}"]],
    )  # fmt: skip


def make_folder(folder: Path, options: argparse.Namespace) -> None:
    """Write class folders of empty files, and their index."""
    for label in range(options.classes):
        own = folder / "set" / f"n{label:08}"
        own.mkdir(parents=True)
        for number in range(options.images // options.classes):
            (own / f"n{label:08}_{number}.JPEG").touch()
    original = set_index._look_at_file
    set_index._look_at_file = lambda path: (hash(path.name), 0, 0, "")
    try:
        indexed(list_image_folder(folder / "set")[0], cache=folder / "cache")
    finally:
        set_index._look_at_file = original


class OneImage:
    """A store whose images are all the same."""

    def __init__(self, count: int) -> None:
        file = io.BytesIO()
        Image.new("RGB", (500, 375), (90, 120, 60)).save(file, "JPEG")
        self.count, self.encoded = count, file.getvalue()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> bytes:
        return self.encoded


Taken = tuple[float, float, float, float, float]


def in_process(folder: Path) -> Taken:
    """Seconds up to the listing, the index and the first batch; gigabytes here and in a worker; in a new process."""
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    process = context.Process(target=start, args=(folder, queue))
    process.start()
    taken: Taken = queue.get()
    process.join()
    return taken


def start(folder: Path, queue: Any) -> None:
    """Start as a second time: no file is read."""
    begin = time.perf_counter()
    listing = list_image_folder(folder / "set")[0]
    listed = time.perf_counter()
    found = indexed(listing, cache=folder / "cache")
    ended = time.perf_counter()
    assert found.broken == ()
    assert len(found.digests) == len(listing.names)
    places = torch.arange(len(listing.names))
    labels, digests = torch.from_numpy(listing.labels), torch.from_numpy(found.digests)
    files = FileSet(
        OneImage(len(places)), listing.names, places, labels, places, listing.classes, digests, Framing(224),
        (3, 224, 224),
    )  # fmt: skip
    loader = Loader(
        files, batch_size=64, input_format=InputFormat((0.5,) * 3, (0.25,) * 3), shuffle=True, workers=2,
        augment=Augment(pad=0, min_scale=0.08), channels_last=True,
    )  # fmt: skip
    batches: Any = loader.epoch(1)
    next(batches)
    first = time.perf_counter()
    batches.close()
    used = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak, worker = (resource.getrusage(which).ru_maxrss * 1024 / 1e9 for which in used)
    queue.put((listed - begin, ended - begin, first - begin, peak, worker))
