"""Interleaved timing, its statistics, and the Markdown that reports them."""

from __future__ import annotations

import argparse
import datetime
import gc
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]


class Spread(NamedTuple):
    """Quartiles of some numbers."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The quartiles of one number or more."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))

    def text(self, scale: float = 1.0, digits: int = 3) -> str:
        """The median with the quartiles behind it."""
        low, median, high = (f"{scale * value:.{digits}g}" for value in self)
        return f"{median} ({low} to {high})"


@dataclass(frozen=True)
class Comparison:
    """How long each contender took in each round.

    Attributes:
        seconds: by contender, one number a round.
    """

    seconds: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """The median of a contender's rounds, in seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, over: str, under: str) -> Spread:
        """Quartiles of the ratio within each round, so that what slows a whole round falls out."""
        pairs = zip(self.seconds[over], self.seconds[under], strict=True)
        return Spread.of([a / b for a, b in pairs])


def compare(calls: Mapping[str, Call], *, rounds: int, warmup: int = 1, least: float = 0.0) -> Comparison:
    """Time calls in turn, round after round, each round starting with the next of them.

    Args:
        calls: the contenders; one that returns a float has timed itself, in seconds.
        rounds: how often each is timed.
        warmup: rounds before those, which do not count.
        least: seconds; a shorter call is repeated until it fills them, and counts as the mean of its repeats.
    """
    names = list(calls)
    repeats = dict.fromkeys(names, 1)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warmup, rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            taken = timed(calls[name], repeats[name])
            if number >= 0:
                seconds[name].append(taken)
            elif least:
                repeats[name] = max(1, math.ceil(least / taken))
        print(f"round {number + 1} of {rounds}" if number >= 0 else "warm-up", file=sys.stderr)
    return Comparison(seconds)


def timed(call: Call, repeats: int) -> float:
    """Mean seconds of one call; the garbage collector waits."""
    gc.collect()
    gc.disable()
    try:
        begin = time.perf_counter()
        results = [call() for _ in range(repeats)]
        taken = time.perf_counter() - begin
    finally:
        gc.enable()
    own = [result for result in results if isinstance(result, float)]
    return statistics.fmean(own) if own else taken / repeats


def peak_bytes(call: Call) -> int:
    """The most memory a call holds at once beyond what it found, as PyTorch's CPU allocator counts it.

    Exact to the byte and blind to what others allocate: NumPy, and oneDNN's scratch memory.
    """
    call()  # what is made once and kept is not the call's
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def exponent(x: tuple[float, float], y: tuple[float, float]) -> float:
    """The p of y ~ x^p through two neighbours; an x that hardly moves says nothing."""
    return math.log(y[1] / y[0]) / math.log(x[1] / x[0])


def make_parser(name: str, description: str | None, *, rounds: int, threads: int | None) -> argparse.ArgumentParser:
    """A parser with what every benchmark has; threads is None where they are not to choose."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=rounds, help=f"timed rounds, default {rounds}")
    if threads is not None:
        parser.add_argument("--threads", type=int, default=threads, help=f"of PyTorch, default {threads}")
    return parser


def print_header(title: str) -> None:
    """Say what was measured, when, on what and by which command. Call it when the threads are set, before timing."""
    machine = f"{cpu_model()} ({capability()}), {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores"
    print(f"# {title}\n")
    print(
        f"{datetime.date.today()}, {machine}, {torch.get_num_threads()} PyTorch thread(s), "
        f"load average {os.getloadavg()[0]:.1f} at the start, Python {platform.python_version()}, "
        f"torch {torch.__version__}, {git_state()}.\n"
    )
    print(f"```\npython -m benchmarks {shlex.join(sys.argv[1:])}\n```\n", flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A Markdown table."""
    print(f"| {' | '.join(columns)} |")
    print(f"|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    print(flush=True)


def cpu_model() -> str:
    """The processor's name."""
    return _cpu_line("model name") or platform.processor() or platform.machine()


def capability() -> str:
    """The vector instructions PyTorch uses, and bf16 instructions if there are any."""
    flags = _cpu_line("flags").split()
    bf16 = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    return " ".join([torch.backends.cpu.get_cpu_capability(), *bf16])


def has_bf16() -> bool:
    """Whether the processor computes in bf16."""
    return "bf16" in capability()


def git_state() -> str:
    """The commit, and whether files differ from it."""

    def git(*words: str) -> str:
        place = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=place, capture_output=True, text=True, check=False).stdout.strip()

    commit = git("rev-parse", "--short", "HEAD")
    if not commit:
        return "no git"
    return f"commit {commit}" + (" with uncommitted changes" if git("status", "--porcelain") else "")


def _cpu_line(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
