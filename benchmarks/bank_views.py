"""What repeat_views costs in accuracy: students that see the views of k epochs again and again, for several k.

    OMP_NUM_THREADS=1 python -m benchmarks bank_views --data ../shared/data/tiny-imagenet-200-32px

Every student of a seed learns from the same teacher and reads the same bank. The differences are within a seed.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks.harness import print_header, print_table
from stillroom.api import distill, train
from stillroom.engine.run_folder import RunFolder


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks bank_views",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--runs", default="runs/bank-views", help="folder of the runs; a second call continues them")
    parser.add_argument("--views", type=int, nargs="+", default=[1, 4], help="values of repeat_views, default 1 4")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20, help="of each student, default 20")
    parser.add_argument("--teacher_epochs", type=int, default=20)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--per_class", type=int, default=250)
    parser.add_argument("--teacher", default="resnet20")
    parser.add_argument("--student", default="resnet8")
    options = parser.parse_args(arguments)
    common: dict[str, Any] = {
        "data": options.data, "first_classes": options.classes, "per_class": options.per_class, "runs": options.runs,
        "accelerator": "cpu", "progress": True, "schedule": "milestones",
    }  # fmt: skip
    _, teacher = train(model=options.teacher, epochs=options.teacher_epochs, name="teacher", **common)
    counts = sorted({*options.views, options.epochs}, reverse=True)  # all epochs first: that run fills the bank
    accuracies: dict[int, list[float]] = {count: [] for count in counts}
    for seed in range(options.seeds):
        for count in counts:
            _, record = distill(
                teacher=str(teacher.path), student=options.student, method="0.1*ce + 0.9*kd(temperature=4)",
                epochs=options.epochs, seed=seed, repeat_views=None if count == options.epochs else count,
                bank=str(Path(options.runs) / "bank"), name=f"views{count}-s{seed}", **common,
            )  # fmt: skip
            accuracies[count].append(record.summary()["last"]["val_top1"])
    report(options, teacher, accuracies)


def report(options: argparse.Namespace, teacher: RunFolder, accuracies: dict[int, list[float]]) -> None:
    """Print accuracies by number of different epochs, each with its differences from a run without repeated views."""
    print_header(f"Repeated views: {options.teacher} to {options.student}")
    print(
        f"{options.classes} classes, {options.per_class} training images each; {options.epochs} epochs, "
        f"{options.seeds} seeds. The teacher has {teacher.summary()['last']['val_top1']:.2f} % top-1 after "
        f"{options.teacher_epochs} epochs.\n"
    )
    rows = []
    for count, found in accuracies.items():
        apart = [one - other for one, other in zip(found, accuracies[options.epochs], strict=True)]
        spread = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
        rows.append([
            f"{count} (all)" if count == options.epochs else count,
            f"{statistics.fmean(found):.2f}{spread}",
            f"{statistics.fmean(apart):+.2f} ({', '.join(f'{points:+.1f}' for points in apart)})",
        ])  # fmt: skip
    print_table(["different epochs", "last top-1 %", "points over all, mean (each seed)"], rows)
