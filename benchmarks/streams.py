"""Training steps of DOT and DeepKD beside SGD: what one and two more backward passes of the student cost.

All train the same student from the same weights with the same teacher on cross-entropy plus DKD: batch 64, 100 classes,
noise images of 32x32. One round is one epoch of each, without validation. Where the teacher's logits come from a bank,
which the round before the first one has filled, the student's passes are all there is.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable

import torch
from torch import nn

import stillroom
from benchmarks.harness import compare, make_parser, print_header, print_table
from benchmarks.step import BATCH, PAIRS, networks, noise_set
from stillroom.data import DataSet

OPTIMIZERS = ("sgd", "dot", "deepkd")


def main(arguments: list[str]) -> None:
    parser = make_parser("streams", __doc__, rounds=5, threads=2)
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--precision", choices=["32", "bf16"], default="32")
    parser.add_argument("--batches", type=int, default=20, help="steps in an epoch, default 20")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print_header("Training steps with several gradient streams")
    print(f"Epochs of {options.batches} steps, {options.rounds} interleaved rounds; medians, quartiles in brackets.\n")
    data = noise_set(options.batches)
    for pair in options.pairs:
        teacher, student = networks(pair)
        with tempfile.TemporaryDirectory() as bank:
            calls = {
                f"{name}{', banked teacher' if banked else ''}": epoch(
                    teacher, student, data, name, options.precision, bank if banked else None
                )
                for banked in (False, True)
                for name in OPTIMIZERS
            }
            took = compare(calls, rounds=options.rounds)
        print(f"## {pair.replace('-', ' to ')}\n")
        rows = []
        for label in calls:
            _, comma, rest = label.partition(",")
            base = f"{OPTIMIZERS[0]}{comma}{rest}"
            seconds = took.median(label) / options.batches
            rows.append([label, f"{1e3 * seconds:.1f}", took.ratio(label, base).text()])
        print_table(["optimizer", "ms a step", "times the time of sgd"], rows)


def epoch(
    teacher: nn.Module, student: nn.Module, data: DataSet, optimizer: str, precision: str, bank: str | None
) -> Callable[[], float]:
    """An epoch of a run of its own, from the student's first weights; its recorded seconds."""

    def run() -> float:
        with tempfile.TemporaryDirectory() as runs:
            _, record = stillroom.distill(
                teacher=copy.deepcopy(teacher), student=copy.deepcopy(student), data=data, method="dkd",
                optimizer=optimizer, epochs=1, batch_size=BATCH, lr=0.01, accelerator="cpu", precision=precision,
                bank=bank, runs=runs,
            )  # fmt: skip
            (row,) = record.epochs()
        return float(row["seconds"])

    return run
