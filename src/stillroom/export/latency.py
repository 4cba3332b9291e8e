"""Latency of models: repeated calls, interleaved over the models."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROUNDS = (7, 60)  # fewest and most
SECONDS = 6.0  # for all models together at one batch size, if the fewest rounds take less
QUICK = 0.05  # seconds; faster calls are repeated within a round, after one that is not counted
REPEATS = 3

Contender = tuple[str, str]  # model and runtime


@dataclass(frozen=True)
class Timing:
    """One model in one runtime at one batch size.

    Attributes:
        model: teacher or student.
        runtime: PyTorch, onnxruntime or onnxruntime int8.
        batch: images in a call.
        calls: the number of timed calls.
        median_ms: of a call, in milliseconds.
        low_ms: a tenth of the calls took less.
        high_ms: a tenth of the calls took more.
        images_per_second: at the median.
    """

    model: str
    runtime: str
    batch: int
    calls: int
    median_ms: float
    low_ms: float
    high_ms: float
    images_per_second: float


def time_calls(contenders: Mapping[Contender, Callable[[], object]], batch: int) -> list[Timing]:
    """Time calls in interleaved rounds, so that other load on the machine affects all models equally.

    Args:
        contenders: a call of ``batch`` images for each.
        batch: images in a call.

    Returns:
        One row each, in their order.
    """
    first = {name: _warmed(call) for name, call in contenders.items()}
    once = sum(seconds * (REPEATS + 1 if seconds < QUICK else 1) for seconds in first.values())
    rounds = int(min(max(SECONDS / once, ROUNDS[0]), ROUNDS[1]))
    taken: dict[Contender, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            quick = first[name] < QUICK
            if quick:
                call()  # warms caches and threads after the previous model
            taken[name] += [_seconds(call) for _ in range(REPEATS if quick else 1)]
    return [_timing(name, batch, seconds) for name, seconds in taken.items()]


def _warmed(call: Callable[[], object]) -> float:
    """Seconds of the second call; the first one allocates."""
    call()
    return _seconds(call)


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _timing(name: Contender, batch: int, seconds: list[float]) -> Timing:
    low, median, high = (float(value) for value in np.percentile(np.asarray(seconds) * 1000, [10, 50, 90]))
    return Timing(*name, batch, len(seconds), median, low, high, 1000 * batch / median)


def machine_record() -> dict[str, Any]:
    """The machine of a measurement: processor, threads, load at its beginning."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "device": "cpu",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": load,
        "platform": platform.platform(),
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
