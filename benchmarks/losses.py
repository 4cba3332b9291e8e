"""LDRLD, forward and backward, against the public recursion and PyTorch's own KL distillation; two losses beside them.

With --all, every logit loss against that KL. Values are compared with the recursion's before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.baselines.kl import kl
from benchmarks.baselines.ldrld import recursive_ldrld
from benchmarks.harness import Call, compare, make_parser, print_header, print_table
from stillroom.losses import GKL, KD, LDRLD, Standardized, ldrld
from stillroom.losses.kernels.ldrld import Backend
from stillroom.losses.protocol import connect_needs_of, needs_of
from stillroom.methods import PRESETS

# (B, C): at most so many times KL's time.
SHAPES = {(64, 100): 3.0, (256, 200): 1.5, (512, 1000): 1.5}
FASTER = 20.0
BACKENDS: tuple[Backend, ...] = ("torch", "numba")


def main(arguments: list[str]) -> None:
    parser = make_parser("losses", __doc__, rounds=25, threads=1)
    parser.add_argument("--least", type=float, default=0.02, help="seconds that repeats fill in a round, default 0.02")
    parser.add_argument("--all", action="store_true", help="every logit loss against KL instead")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print_header("Losses against public code and PyTorch's own KL distillation")
    print(f"Float32, forward and backward, {options.rounds} interleaved rounds; medians, and quartiles in brackets.\n")
    (every if options.all else flagship)(options.rounds, options.least)


def flagship(rounds: int, least: float) -> None:
    """LDRLD by each backend, beside its two baselines; GKL, and LDRLD with mass."""
    rows, others = [], []
    for (batch, classes), most in SHAPES.items():
        student, teacher, given = draw(batch, classes)
        contenders = {"recursion": recursive_ldrld, **{name: partial(ldrld, backend=name) for name in BACKENDS}}
        assert_same(student, teacher, list(contenders.values()))
        calls: dict[str, Call] = {
            name: partial(backward, student, partial(loss, student, teacher))
            for name, loss in [*contenders.items(), ("kl", kl)]
        }
        calls["GKL"] = partial(backward, student, prepared(GKL(), given))
        calls["LDRLD with mass"] = partial(backward, student, partial(ldrld, student, teacher, mass=7.0))
        took = compare(calls, rounds=rounds, warmup=2, least=least)
        for name in BACKENDS:
            faster, of_kl = took.ratio("recursion", name), took.ratio(name, "kl")
            rows.append([
                f"{batch} x {classes}", name, *(f"{1e6 * took.median(call):.0f}" for call in (name, "recursion", "kl")),
                faster.text(), verdict(f"≥ {FASTER:g}", faster.median >= FASTER),
                of_kl.text(), verdict(f"≤ {most:g}", of_kl.median <= most),
            ])  # fmt: skip
        for other in ("GKL", "LDRLD with mass"):
            beside = (took.ratio(other, name).text() for name in ("torch", "kl"))
            others.append([f"{batch} x {classes}", other, f"{1e6 * took.median(other):.0f}", *beside])
    print_table([
        "B x C", "backend", "LDRLD, us", "recursion, us", "KL, us",
        "recursion / LDRLD", "target", "LDRLD / KL", "target",
    ], rows)  # fmt: skip
    print("\nBeside LDRLD with PyTorch's operations; GKL has its table of class weights:\n")
    print_table(["B x C", "loss", "us", "times LDRLD", "times KL"], others)


def every(rounds: int, least: float) -> None:
    """Each logit loss beside KL; those that need features are left out."""
    losses = {name: preset.loss() for name, preset in PRESETS.items()}
    losses |= {"ldrld(backend='numba')": LDRLD(backend="numba")}
    losses |= {"standardized(kd)": Standardized(KD()), "standardized(ldrld)": Standardized(LDRLD())}
    columns, rows = [f"{batch} x {classes}" for batch, classes in SHAPES], {}
    for batch, classes in SHAPES:
        student, teacher, given = draw(batch, classes)
        calls: dict[str, Call] = {"kl": partial(backward, student, partial(kl, student, teacher))}
        for name, loss in losses.items():
            if {*needs_of(loss), *connect_needs_of(loss)} <= {*given}:
                calls[name] = partial(backward, student, prepared(loss, given))
        took = compare(calls, rounds=rounds, warmup=2, least=least)
        for name in calls:
            if name != "kl":
                rows.setdefault(name, []).append(took.ratio(name, "kl").text())
    print("Times as multiples of KL's:\n")
    print_table(["loss", *columns], [[name, *cells] for name, cells in rows.items()])


def prepared(loss: nn.Module, given: Mapping[str, object]) -> partial[Tensor]:
    """A loss, connected, with what its forward takes."""
    connect_needs = connect_needs_of(loss)
    if connect_needs:
        connect: Any = loss.connect
        connect(**{need: given[need] for need in connect_needs})
    return partial(loss, **{need: given[need] for need in needs_of(loss)})


def draw(batch: int, classes: int) -> tuple[Tensor, Tensor, dict[str, object]]:
    """Student, teacher, and all that a logit loss may ask for by name."""
    generator = torch.Generator().manual_seed(0)
    student, teacher, strong_student, strong_teacher = (
        3 * torch.randn(batch, classes, generator=generator) for _ in range(4)
    )
    student.requires_grad_()
    given = {
        "student_logits": student,
        "teacher_logits": teacher,
        "student_logits_strong": strong_student.requires_grad_(),
        "teacher_logits_strong": strong_teacher,
        "target": torch.randint(classes, (batch,), generator=generator),
        "epoch": 5,
        "teacher_head": nn.Linear(64, classes),
    }
    return student, teacher, given


def backward(student: Tensor, loss: partial[Tensor]) -> None:
    """One evaluation with its gradient, which is dropped."""
    loss().backward()
    student.grad = None


def assert_same(student: Tensor, teacher: Tensor, contenders: Sequence[Callable[..., Tensor]]) -> None:
    """The contenders compute the same thing; what is compiled at its first call is so before anything is timed."""
    values, gradients = [], []
    for loss in contenders:
        value = loss(student, teacher)
        gradients.append(torch.autograd.grad(value, student)[0])
        values.append(value.detach())
    for value, gradient in zip(values[1:], gradients[1:], strict=True):
        torch.testing.assert_close(value, values[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-4, atol=1e-6)


def verdict(target: str, met: bool) -> str:
    """The target, and whether the median reaches it."""
    return f"{target}: {'met' if met else 'MISSED'}"
