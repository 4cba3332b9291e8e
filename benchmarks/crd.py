"""CRD's scores: one product with the whole memory and a gather, against fetching every picked row; interleaved.

OMP_NUM_THREADS=1 python benchmarks/crd.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLES, PICKS, BATCH, DIM, ROUNDS = 50_000, 16_385, 64, 128, 5


def main() -> None:
    memory = F.normalize(torch.randn(SAMPLES, DIM))
    unit = F.normalize(torch.randn(BATCH, DIM))
    picks = torch.randint(SAMPLES, (BATCH, PICKS))
    torch.testing.assert_close(product(unit, memory, picks), fetched(unit, memory, picks), rtol=1e-4, atol=1e-5)
    calls: dict[str, Callable[[], Tensor]] = {
        "product and gather": lambda: product(unit, memory, picks),
        "rows fetched": lambda: fetched(unit, memory, picks),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    for name, values in times.items():
        print(f"{name}: {1e3 * statistics.median(values):.1f} ms")


def product(unit: Tensor, memory: Tensor, picks: Tensor) -> Tensor:
    return (unit @ memory.T).gather(1, picks)


def fetched(unit: Tensor, memory: Tensor, picks: Tensor) -> Tensor:
    rows = memory[picks.flatten()].view(BATCH, PICKS, DIM)
    return torch.bmm(rows, unit.unsqueeze(2)).squeeze(2)


if __name__ == "__main__":
    main()
