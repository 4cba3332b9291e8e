"""Time and peak memory as classes, depth, batch or model grow, with the exponent between neighbours.

An exponent of 1 is proportional growth. LDRLD's mathematics is B (C + d C + d^2): its exponents may rise to 1 in
classes and batch and to 2 in depth, a training step's to 1 in the model's FLOPs; more would be an accident. Small
cases are flatter because every call has a fixed cost. Memory is what PyTorch allocates on the CPU beyond the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.baselines.kl import kl
from benchmarks.harness import Call, compare, exponent, make_parser, peak_bytes, print_header, print_table
from stillroom.losses import ldrld
from stillroom.models import build_model

CLASSES = (10, 30, 100, 300, 1000, 3000, 10_000)
DEPTHS = (2, 4, 8, 16, 32, 64)
BATCHES = (16, 64, 256, 1024, 4096)
MODELS = {
    "depth": ("resnet8", "resnet14", "resnet20", "resnet32", "resnet56", "resnet110"),
    "width": ("wrn_16_1", "wrn_16_2", "resnet8x4", "ResNet18"),
}
PARTS = ("classes", "depth", "batch", "model")


def main(arguments: list[str]) -> None:
    parser = make_parser("growth", __doc__, rounds=7, threads=1)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", nargs="+", help="names from the zoo in the order of their FLOPs, one table")
    parser.add_argument("--batch_size", type=int, default=64, help="of the training step, default 64")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print_header("Growth of time and memory")
    print(f"Float32, forward and backward, medians of {options.rounds} interleaved rounds.\n")
    losses = {
        "classes": ("classes C (B = 64, d = 7)", CLASSES, lambda value: (64, value, 7)),
        "depth": ("depth d (B = 64, C = 1000)", DEPTHS, lambda value: (64, 1000, value)),
        "batch": ("batch B (C = 100, d = 7)", BATCHES, lambda value: (value, 100, 7)),
    }
    for part in options.parts:
        if part in losses:
            loss_table(*losses[part], options.rounds)
    if "model" in options.parts:
        families = {"the models given": options.models} if options.models else MODELS
        for family, names in families.items():
            model_table(family, names, options.batch_size, options.rounds)


def loss_table(title: str, values: Sequence[int], shape: Callable[[int], tuple[int, int, int]], rounds: int) -> None:
    """LDRLD, with KL beside it, against one of its sizes."""
    calls: dict[str, Call] = {}
    for value in values:
        batch, classes, depth = shape(value)
        student, teacher = 3 * torch.randn(2, batch, classes)
        student.requires_grad_()
        calls[f"LDRLD {value}"] = partial(evaluate, partial(ldrld, depth=min(depth, classes)), student, teacher)
        calls[f"KL {value}"] = partial(evaluate, kl, student, teacher)
    took = compare(calls, rounds=rounds, least=0.005)
    peaks = {name: peak_bytes(call) for name, call in calls.items()}
    print(f"## LDRLD against {title}\n")
    columns, columns_of = [title.split(" (")[0]], []
    for name in ("LDRLD", "KL"):
        columns += [f"{name}, us", "exponent", f"{name}, KiB", "exponent"]
        times = [1e6 * took.median(f"{name} {value}") for value in values]
        memory = [peaks[f"{name} {value}"] / 1024 for value in values]
        columns_of += [shown(times), exponents(values, times), shown(memory), exponents(values, memory)]
    print_table(columns, zip(values, *columns_of, strict=True))


def model_table(family: str, names: Sequence[str], batch_size: int, rounds: int) -> None:
    """A student's training step, LDRLD on given teacher logits, against the model's FLOPs."""
    flops = {name: step_flops(name, batch_size) for name in names}
    calls = {name: training_step(name, batch_size) for name in names}
    took = compare(calls, rounds=rounds)
    peaks = {name: peak_bytes(call) for name, call in calls.items()}
    print(f"## Training step against the model: {family}\n")
    size = [flops[name] / 1e9 for name in names]
    times = [1e3 * took.median(name) for name in names]
    memory = [peaks[name] / 2**20 for name in names]
    columns = ["student", "GFLOP a step", "ms", "exponent", "MiB", "exponent"]
    cells = [shown(size), shown(times), exponents(size, times), shown(memory), exponents(size, memory)]
    print_table(columns, zip(names, *cells, strict=True))


def evaluate(loss: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor) -> None:
    """The loss and its gradient, which is dropped."""
    loss(student, teacher).backward()
    student.grad = None


def training_step(name: str, batch_size: int) -> Call:
    """One step of a student on one batch."""
    model = build_model(name, num_classes=100).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    images = torch.randn(batch_size, 3, 32, 32).to(memory_format=torch.channels_last)
    teacher = 3 * torch.randn(batch_size, 100)

    def step() -> None:
        ldrld(model(images), teacher).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def step_flops(name: str, batch_size: int) -> int:
    """FLOPs of a model's forward and backward pass, counted without computing them."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = build_model(name, num_classes=100)
        model(torch.empty(batch_size, 3, 32, 32)).sum().backward()
    return int(counter.get_total_flops())


def shown(values: Sequence[float]) -> list[str]:
    """Three digits each."""
    return [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values]


def exponents(x: Sequence[float], y: Sequence[float]) -> list[str]:
    """Nothing for the first, then the growth from the neighbour before."""
    pairs = range(1, len(x))
    return ["", *(f"{exponent((x[i - 1], x[i]), (y[i - 1], y[i])):.2f}" for i in pairs)]
