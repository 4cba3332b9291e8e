"""The whole training step, Stillroom's engine against a public training loop, and both against the processor's peak.

Both train the same student from the same weights with the same teacher on cross-entropy plus LDRLD: batch 64, 100
classes, noise images of 32x32, crops and flips. One round is one epoch of each, timed from its first batch to its
last step, without validation. The peak is what plain 3x3 convolutions of the networks' own sizes reach (forward, the
better memory order, the best of all rounds); a step's FLOPs are those of convolutions and matrix products in the
teacher's forward pass and the student's forward and backward pass. Where the teacher's logits come from a bank, which
the round before the first one has filled, as for every student after the first, only the student's count.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import yaml
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import stillroom
from benchmarks.baselines.loader import make_loader
from benchmarks.baselines.loop import make_optimizer, train_epoch
from benchmarks.harness import compare, has_bf16, make_parser, print_header, print_table
from stillroom.data import Augment, DataSet, ImageSet
from stillroom.models import build_model

BATCH, CLASSES, SIZE = 64, 100, 32
# Teacher and student, and the (channels, side) of their stages.
PAIRS = {
    "resnet32x4-resnet8x4": ((64, 32), (128, 16), (256, 8)),
    "resnet56-resnet20": ((16, 32), (32, 16), (64, 8)),
}
BASELINE = "public loop"
DTYPES = {"32": torch.float32, "bf16": torch.bfloat16}


class Loop(NamedTuple):
    """One of the contenders: its precision, and whether its teacher's logits come from a bank."""

    precision: str
    banked: bool


def main(arguments: list[str]) -> None:
    parser = make_parser("step", __doc__, rounds=5, threads=2)
    precisions = ["32", "bf16"] if has_bf16() else ["32"]
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--precision", nargs="+", choices=["32", "bf16"], default=precisions, help="of Stillroom's")
    parser.add_argument("--batches", type=int, default=20, help="steps in an epoch, default 20")
    parser.add_argument("--workers", type=int, default=2, help="of the public loop's loader, default 2")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="more settings of stillroom.distill")
    options = parser.parse_args(arguments)
    settings = {name: yaml.safe_load(value) for name, _, value in (text.partition("=") for text in options.set)}
    torch.set_num_threads(options.threads)
    print_header("Training steps against a public training loop")
    print(f"Epochs of {options.batches} steps, {options.rounds} interleaved rounds; medians, quartiles in brackets.\n")
    data = noise_set(options.batches)
    for pair in options.pairs:
        measure(pair, data, options.precision, options.rounds, options.workers, settings)


def measure(
    pair: str, data: DataSet, precisions: list[str], rounds: int, workers: int, settings: dict[str, Any]
) -> None:
    """Time a pair and print its tables."""
    teacher, student = networks(pair)
    losses: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    loops: dict[str, Loop] = {BASELINE: Loop("32", banked=False)}
    for precision in precisions:
        loops[f"stillroom {precision}"] = Loop(precision, banked=False)
        loops[f"stillroom {precision}, banked teacher"] = Loop(precision, banked=True)
    calls: dict[str, Callable[[], float | None]] = {
        BASELINE: public_loop(teacher, student, data, workers, losses.setdefault(BASELINE, [])),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, loop in loops.items():
            if name != BASELINE:
                chosen = settings | {"precision": loop.precision, "bank": folder if loop.banked else None}
                calls[name] = engine(teacher, student, data, chosen, losses.setdefault(name, []))
        for precision in {"32", *precisions}:
            rates = peaks.setdefault(precision, [])
            calls[f"peak {precision}"] = partial(convolve, PAIRS[pair], DTYPES[precision], rates)
        took = compare(calls, rounds=rounds)
    steps, (asking, learning) = len(data.train) // BATCH, step_flops(*pair.split("-"))
    print(f"## {pair.replace('-', ' to ')}\n")
    print(f"{(asking + learning) / 1e9:.1f} GFLOP a step, {learning / 1e9:.1f} of them the student's.\n")
    rows = []
    for name, loop in loops.items():
        seconds = took.median(name) / steps
        peak, rate = max(peaks[loop.precision]), (learning if loop.banked else asking + learning) / seconds
        rows.append([
            name, f"{1e3 * seconds:.1f}", took.ratio(BASELINE, name).text(), f"{rate / 1e9:.1f}",
            f"{peak / 1e9:.1f}", f"{100 * rate / peak:.0f} %", f"{statistics.median(losses[name]):.2f}",
        ])  # fmt: skip
    columns = ["loop", "ms a step", "times the public loop's speed", "GFLOP/s", "peak GFLOP/s", "of peak", "mean loss"]
    print_table(columns, rows)


def noise_set(batches: int, batch: int = BATCH, size: int = SIZE) -> DataSet:
    """Images of noise; an epoch has ``batches`` batches of ``batch`` images of ``size`` pixels."""
    generator = torch.Generator().manual_seed(0)
    names = tuple(f"class {i}" for i in range(CLASSES))

    def draw(count: int) -> ImageSet:
        images = torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
        return ImageSet(images, torch.arange(count) % CLASSES, torch.arange(count), names)

    return DataSet("noise", draw(batches * batch), draw(batch), (0.5,) * 3, (0.25,) * 3, Augment(pad=4, flip=True))


def networks(pair: str) -> tuple[nn.Module, nn.Module]:
    """Teacher and student, untrained; the teacher with batch norm statistics that keep its logits in range."""
    torch.manual_seed(0)
    teacher, student = (build_model(name, num_classes=CLASSES) for name in pair.split("-"))
    with torch.no_grad():
        for _ in range(20):
            teacher(torch.randn(16, 3, SIZE, SIZE))
    return teacher.eval(), student


def public_loop(
    teacher: nn.Module, student: nn.Module, data: DataSet, workers: int, losses: list[float]
) -> Callable[[], float]:
    """An epoch of the baseline, from the student's first weights; its seconds."""
    loader = make_loader(
        data.train.images, data.train.labels, batch_size=BATCH, mean=data.mean, std=data.std, workers=workers
    )
    own_teacher = copy.deepcopy(teacher)

    def epoch() -> float:
        learner = copy.deepcopy(student)
        result = train_epoch(own_teacher, learner, loader, make_optimizer(learner))
        losses.append(result.loss)
        return result.seconds

    return epoch


def engine(
    teacher: nn.Module, student: nn.Module, data: DataSet, settings: dict[str, Any], losses: list[float]
) -> Callable[[], float]:
    """An epoch of a run of its own through the public API, from the student's first weights; its recorded seconds."""

    def epoch() -> float:
        with tempfile.TemporaryDirectory() as runs:
            _, record = stillroom.distill(
                teacher=copy.deepcopy(teacher), student=copy.deepcopy(student), data=data, method="ce + ldrld",
                epochs=1, batch_size=BATCH, lr=0.05, schedule="milestones", accelerator="cpu",
                runs=runs, **settings,
            )  # fmt: skip
            (row,) = record.epochs()
        losses.append(row["loss"])
        return float(row["seconds"])

    return epoch


def convolve(stages: tuple[tuple[int, int], ...], dtype: torch.dtype, rates: list[float]) -> None:
    """Note the FLOPs a second of a 3x3 convolution in every stage together."""
    flops = seconds = 0.0
    with torch.no_grad():
        for channels, side in stages:
            flops += 2 * 9 * BATCH * channels**2 * side**2
            times = []
            for layout in (torch.contiguous_format, torch.channels_last):
                images = torch.randn(BATCH, channels, side, side, dtype=dtype).to(memory_format=layout)
                weight = torch.randn(channels, channels, 3, 3, dtype=dtype).to(memory_format=layout)
                for _ in range(6):
                    begin = time.perf_counter()
                    F.conv2d(images, weight, padding=1)
                    times.append(time.perf_counter() - begin)
            seconds += min(times)
    rates.append(flops / seconds)


def step_flops(teacher: str, student: str) -> tuple[int, int]:
    """FLOPs of one step's convolutions and matrix products in teacher and student, counted without computing them."""
    images = torch.empty(BATCH, 3, SIZE, SIZE, device="meta")
    counts = []
    for name, trained in ((teacher, False), (student, True)):
        with torch.device("meta"), torch.set_grad_enabled(trained), FlopCounterMode(display=False) as counter:
            logits = build_model(name, num_classes=CLASSES)(images)
            if trained:
                logits.sum().backward()
        counts.append(int(counter.get_total_flops()))
    return counts[0], counts[1]
