"""Training with a teacher bank, against training without any teacher and against a teacher that answers every time.

Three contenders take turns, an epoch each through the public API: labels only, KD with the teacher's answers computed,
KD with the answers read from a bank that an earlier run has filled. A student reads from the bank what every student
after the first reads, so its epoch should cost what labels only cost. Filling the bank is timed once, beside.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import stillroom
from benchmarks.harness import compare, make_parser, print_header, print_table
from benchmarks.step import BATCH, PAIRS, networks, noise_set
from stillroom.data import DataSet

LABELS, LIVE, BANKED = "labels only", "teacher computed", "teacher from the bank"


def main(arguments: list[str]) -> None:
    parser = make_parser("bank", __doc__, rounds=7, threads=2)
    parser.add_argument("--pair", choices=PAIRS, default="resnet56-resnet20")
    parser.add_argument("--batches", type=int, default=20, help="steps in an epoch, default 20")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    teacher, student = networks(options.pair)
    data = noise_set(options.batches)
    with tempfile.TemporaryDirectory() as folder:
        bank = str(Path(folder) / "bank")
        distilled = {"teacher": teacher, "method": "0.1*ce + 0.9*kd"}
        filling = epoch(folder, student, data, bank=bank, **distilled)()
        took = compare(
            {
                LABELS: epoch(folder, student, data),
                LIVE: epoch(folder, student, data, **distilled),
                BANKED: epoch(folder, student, data, bank=bank, **distilled),
            },
            rounds=options.rounds,
        )
        size = sum(file.stat().st_size for file in Path(bank).rglob("*") if file.is_file())
    print_header(f"A teacher bank: {options.pair.replace('-', ' to ')}")
    print(f"Epochs of {options.batches} steps of {BATCH}, {options.rounds} interleaved rounds; medians, quartiles in")
    print(f"brackets. The run that filled the bank took {1e3 * filling / options.batches:.1f} ms a step; the bank has")
    print(f"{size / 1e6:.2f} MB. Target: from the bank at most 1.10 of labels only.\n")
    rows = [
        [name, f"{1e3 * took.median(name) / options.batches:.1f}", took.ratio(name, LABELS).text()]
        for name in (LABELS, LIVE, BANKED)
    ]
    print_table(["student learns from", "ms a step", "time of labels only"], rows)


def epoch(
    folder: str, student: nn.Module, data: DataSet, accelerator: str = "cpu", precision: str = "32", **settings: Any
) -> Callable[[], float]:
    """An epoch of a run of its own, from the student's first weights; its recorded seconds."""

    def run() -> float:
        shared = {
            "data": data, "epochs": 1, "batch_size": BATCH, "lr": 0.05, "accelerator": accelerator,
            "precision": precision, "runs": tempfile.mkdtemp(dir=folder),
        }  # fmt: skip
        if "teacher" in settings:
            chosen = {**settings, "teacher": copy.deepcopy(settings["teacher"])}
            _, record = stillroom.distill(student=copy.deepcopy(student), **chosen, **shared)
        else:
            _, record = stillroom.train(model=copy.deepcopy(student), **shared)
        return float(record.epochs()[0]["seconds"])

    return run
