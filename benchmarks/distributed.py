"""Two processes that train one ResNet18 together, against two independent ones that do not communicate.

Each process has one thread. Both ways run the engine on labels and random images in memory: independent processes
train a model of their own with a batch of their own; processes together train one model with a batch twice as large,
through gloo. "overlapped" is Stillroom's own way, DistributedDataParallel; "after backward" is the engine with one flat
all-reduce of all gradients after the backward pass instead. Both have batch_norm=per_process. "synchronised norms" is
overlapped, with statistics of the whole batch. One round is an epoch of each, timed from its first to its last step.

On a CPU communication runs on the cores that compute, so that overlap hides waiting but not its processor time. What
NCCL hides on GPUs has to be measured there.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, distributed, multiprocessing
from torchvision.models import resnet18

import stillroom
from benchmarks.harness import Comparison, compare, has_bf16, make_parser, print_header, print_table
from benchmarks.step import CLASSES, noise_set
from stillroom.batch import Batch, Output
from stillroom.engine.accumulation import Part
from stillroom.engine.data_parallel import DataParallel

PROCESSES = 2
BATCH = {"32": 32, "bf16": 64}  # about a second a step
TARGET = 0.90


class Contender(NamedTuple):
    """A way to train with two processes."""

    together: bool = True
    flat: bool = False
    batch_norm: str = "per_process"


INDEPENDENT, OVERLAPPED = "independent", "overlapped"
CONTENDERS = {
    INDEPENDENT: Contender(together=False),
    OVERLAPPED: Contender(),
    "after backward": Contender(flat=True),
    "synchronised norms": Contender(batch_norm="synchronised"),
}


class Epoch(NamedTuple):
    """What a process trains in a round.

    Attributes:
        contender: together or alone, and how.
        precision: 32 or bf16.
        batch: images of a step in each process.
        steps: of the epoch.
        size: side of the images in pixels.
        runs: folder for run folders, the same for both processes.
    """

    contender: Contender
    precision: str
    batch: int
    steps: int
    size: int
    runs: str = ""


def main(arguments: list[str]) -> None:
    parser = make_parser("distributed", __doc__, rounds=5, threads=None)
    precisions = ["32", "bf16"] if has_bf16() else ["32"]
    parser.add_argument("--precision", nargs="+", choices=["32", "bf16"], default=precisions)
    parser.add_argument("--batch", type=int, help="images of a step in each process, default 32, and 64 in bf16")
    parser.add_argument("--steps", type=int, default=3, help="in an epoch, default 3")
    parser.add_argument("--size", type=int, default=112, help="side of the images, default 112")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print_header("Two processes together against two independent ones")
    batches = {precision: options.batch or BATCH[precision] for precision in options.precision}
    with Workers() as workers:
        calls: dict[str, Callable[[], float]] = {}
        for precision in options.precision:
            for name, contender in CONTENDERS.items():
                epoch = Epoch(contender, precision, batches[precision], options.steps, options.size)
                calls[f"{name}, {precision}"] = partial(workers.seconds_of, epoch)
        took = compare(calls, rounds=options.rounds)
    print(
        f"torchvision's ResNet18 with {CLASSES} classes, images of {options.size} pixels, "
        f"{options.steps} steps in an epoch, {options.rounds} interleaved rounds; medians, quartiles in "
        "brackets.\n"
    )
    report(took, batches, options.steps)


def report(took: Comparison, batches: dict[str, int], steps: int) -> None:
    """Print the table; ``batches`` has the images of a step in each process by precision."""
    rows = []
    for precision, batch in batches.items():
        for name in CONTENDERS:
            key, base = f"{name}, {precision}", f"{INDEPENDENT}, {precision}"
            ratio = took.ratio(base, key)
            target = f"≥ {TARGET:g}: {'met' if ratio.median >= TARGET else 'MISSED'}" if name == OVERLAPPED else ""
            step, images = took.median(key) / steps, PROCESSES * batch
            rows.append([precision, name, batch, f"{step:.2f}", f"{images / step:.1f}", ratio.text(), target])
    columns = [
        "precision",
        "processes",
        "batch of each",
        "s a step",
        "images/s of both",
        "images/s of independent ones",
        "target",
    ]
    print_table(columns, rows)


class Workers:
    """Two processes that train an epoch each time they are told to, both at the same time."""

    def __enter__(self) -> Workers:
        """Start the processes."""
        context = multiprocessing.get_context("spawn")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._pipes: list[Connection] = []
        with patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):
            for rank in range(PROCESSES):
                here, there = context.Pipe()
                context.Process(target=work, args=(there, rank, port), daemon=True).start()
                there.close()  # the process then has the only other end: its death ends a wait here
                self._pipes.append(here)
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        for process in multiprocessing.active_children():
            process.terminate()
            process.join()

    def seconds_of(self, epoch: Epoch) -> float:
        """Train an epoch in both processes; its seconds, by the sum of their images/s."""
        with tempfile.TemporaryDirectory() as runs:
            for pipe in self._pipes:
                pipe.send(epoch._replace(runs=runs))
            return PROCESSES / sum(1 / pipe.recv() for pipe in self._pipes)


def work(pipe: Connection, rank: int, port: int) -> None:
    """Train epochs and send their seconds."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": PROCESSES, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    while True:
        epoch: Epoch = pipe.recv()
        with ExitStack() as changed:
            if epoch.contender.together:  # as torchrun does
                changed.enter_context(patch.dict(os.environ, {name: str(value) for name, value in place.items()}))
            if epoch.contender.flat:
                changed.enter_context(patch("stillroom.engine.loop.DataParallel", AfterBackward))
            pipe.send(train(epoch, "together" if epoch.contender.together else f"alone-{rank}"))


def train(epoch: Epoch, name: str) -> float:
    """Train a new ResNet18 with the engine; the recorded seconds of the epoch."""
    batch = epoch.batch * (PROCESSES if epoch.contender.together else 1)
    data = noise_set(epoch.steps, batch, epoch.size)
    data = replace(data, val=data.val.at(torch.arange(PROCESSES)))
    torch.manual_seed(0)
    _, record = stillroom.train(
        model=resnet18(num_classes=CLASSES), data=data, epochs=1, batch_size=batch, lr=0.05, accelerator="cpu",
        precision=epoch.precision, batch_norm=epoch.contender.batch_norm, runs=epoch.runs, name=name,
    )  # fmt: skip
    (row,) = record.epochs()
    return float(row["seconds"])


class AfterBackward(DataParallel):
    """Averages all gradients in one message after the backward pass."""

    def begin_epoch(self) -> None:
        """Do not build DistributedDataParallel."""

    def add_gradients(self, batch: Batch, teacher: Output | None, part: Part, epoch: int) -> tuple[Tensor, Tensor]:
        """Compute the gradients of this process, then average them."""
        result = super().add_gradients(batch, teacher, part, epoch)
        gradients = [in_memory_order(p.grad) for p in self._step.parameters() if p.grad is not None]
        flat = torch.cat(gradients)
        distributed.all_reduce(flat)
        flat /= PROCESSES
        for gradient, mean in zip(gradients, flat.split([len(gradient) for gradient in gradients]), strict=True):
            gradient.copy_(mean)
        return result


def in_memory_order(gradient: Tensor) -> Tensor:
    """A flat view of a gradient, which is contiguous or channels-last."""
    return (gradient if gradient.is_contiguous() else gradient.permute(0, 2, 3, 1)).view(-1)
