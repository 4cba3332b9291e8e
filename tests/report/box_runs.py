"""Made-up runs of detectors: the records that a run leaves, without a network."""

from __future__ import annotations

from pathlib import Path

from stillroom.engine.run_folder import RunFolder
from tests.report.pages import EPOCHS, made_run

CLASSES = ("ring", "disc", "letter O")


def scores(ap: float) -> dict[str, float]:
    """The scores of an epoch in percent; there are no large objects."""
    parts = {"ap": 1, "ap50": 1.5, "ap75": 0.9, "ap_small": 0.5, "ap_medium": 1.1}
    return {name: round(part * ap, 6) for name, part in parts.items()}


def made_box_run(folder: Path, name: str, method="kd", seed=0, ap=30.0, **settings) -> RunFolder:
    run = made_run(folder, name, CLASSES, method, seed, task="detection", **settings)
    rows = [
        {
            "epoch": i + 1, "lr": 0.01, "loss": 2.0 - i / EPOCHS, "terms": {"supervised": 1.5, "ldrld": 0.5},
            **{f"val_{key}": value for key, value in scores(ap * (i + 1) / EPOCHS).items()},
            "seconds": 7.5, "bank_seconds": 0.0, "images_per_second": 100.0,
        }
        for i in range(EPOCHS)
    ]  # fmt: skip
    run.write_epochs(rows)
    run.write_summary(
        run.summary() | {"last": rows[-1], "best": rows[-1], "teacher": scores(42.0), "teacher_parameters": 7654321}
    )
    return run


def made_box_runs(folder: Path, methods=("ce", "kd", "ldrld"), seeds=3) -> Path:
    """A folder of runs, methods in rising order of AP."""
    for place, method in enumerate(methods):
        for seed in range(seeds):
            ap = 30 + 2 * place + 0.2 * seed + 0.1 * (place * seed % 3)
            teacher = {"teacher_weights": "0123"} if method != "ce" else {}
            made_box_run(folder, f"{method}-s{seed}", method, seed, ap, **teacher)
    return folder
