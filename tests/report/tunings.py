"""Made-up tunings: records and the files of trials' runs, without networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from stillroom.report.comparison_file import NamedMethod
from stillroom.report.tuning_file import write_trials, write_tuning
from stillroom.report.tuning_record import Budget, Trial, Tuning, Winner, trial_folder

FIRST = {"KD": (40.0, 44.0, 42.0, 41.0), "LDRLD": (39.0, 43.0, 46.0, 38.0)}  # scores at the first rung by trial

SETTINGS = {"data": "glyphs100", "task": "classification", "milestones": [3, 5]}


def finish(tuning: Tuning, label: str, number: int, epochs: int, score: float | None) -> None:
    """The files of a trial's finished run, as far as its score needs them."""
    folder = trial_folder(tuning.folder, label, number, epochs)
    folder.mkdir(parents=True)
    row = {"epoch": epochs, "loss": 1.0, "val_loss": 1.0, "val_top1": score, "agreement": 50.0}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    summary = {"last": row, "best": row, "parameters": 1, "seconds": 1.0}
    (folder / "summary.json").write_text(json.dumps(summary))


def made_tuning(folder: Path, *, ended: bool = True, settings: dict[str, object] | None = None) -> Tuning:
    """Two methods with four trials each of 2 epochs, of which the best has 6 epochs too; one trial diverged there."""
    tuning = Tuning(
        folder=folder,
        teacher="resnet56",
        student="resnet20",
        methods={"KD": NamedMethod("kd"), "LDRLD": NamedMethod("ldrld")},
        budget=Budget(trials=4, rungs=(2, 6), quotas=(4, 1)),
        spaces={label: {"lr": {"times": [0.25, 4]}} for label in FIRST},
        seed=0,
        hold_out=0.1,
        settings=SETTINGS if settings is None else settings,
    )
    trials = [
        Trial(label, n, {"lr": 0.05 * 2**n, f"{label.lower()}.weight": 9.0 - n}) for label in FIRST for n in range(4)
    ]
    for label, scores in FIRST.items():
        for number, score in enumerate(scores):
            finish(tuning, label, number, 2, score)
    finish(tuning, "KD", 1, 6, 55.5)
    if ended:
        finish(tuning, "LDRLD", 2, 6, 56.5)
        winners = {
            "KD": Winner("kd(temperature=3)", {"lr": 0.1}, 1, 55.5),
            "LDRLD": Winner("ldrld(depth=6)", {"lr": 0.2}, 2, 56.5),
        }
        tuning = replace(tuning, winners=winners)
    write_trials(folder, trials)
    write_tuning(tuning)
    return tuning
