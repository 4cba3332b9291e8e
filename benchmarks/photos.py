"""Write an ImageNet-shaped set of photograph-like JPEG files for the other benchmarks.

The set is the same for the same options on every machine with the same versions of NumPy and Pillow.
"""

from __future__ import annotations

import argparse
import time

from stillroom.data.photo_generator import write_photos


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks photos", description=__doc__)
    parser.add_argument("folder", metavar="DEST")
    parser.add_argument("--classes", type=int, default=100, help="default 100")
    parser.add_argument("--per_class", type=int, default=500, help="training images of each class; default 500")
    parser.add_argument("--val_per_class", type=int, help="validation images of each; default a tenth of --per_class")
    parser.add_argument("--size", default="500x375", help="width x height, or mixed as in ImageNet; default 500x375")
    parser.add_argument("--quality", default="90", help="JPEG quality, or LOW-HIGH; default 90")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--processes", type=int, help="default one per core")
    options = parser.parse_args(arguments)
    width, _, height = options.size.partition("x")
    low, _, high = options.quality.partition("-")
    begin = time.perf_counter()
    count = write_photos(
        options.folder, options.classes, options.per_class, options.val_per_class, seed=options.seed,
        size="mixed" if options.size == "mixed" else (int(width), int(height)),
        quality=(int(low), int(high or low)), processes=options.processes,
    )  # fmt: skip
    took = time.perf_counter() - begin
    print(f"{count:,} images in {took:.1f} s, {count / took:.0f} images/s; files that were there are kept")
