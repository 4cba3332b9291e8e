from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

import pytest
import torch

from stillroom.runtime import peak_memory
from stillroom.runtime.peak_memory import PeakMemory
from tests.engine.test_loop import run

CPU = torch.device("cpu")
LARGE = 200_000_000


def resident():
    """Bytes that this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def fill(size):
    """Take memory from the system and give it back, past any allocator that keeps freed memory."""
    with mmap.mmap(-1, size) as memory:
        for place in range(0, size, mmap.PAGESIZE):
            memory[place] = 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell")
def test_what_was_freed_counts_and_what_came_before_does_not():
    fill(2 * LARGE)
    peak = PeakMemory(CPU)
    before = resident()
    assert peak.bytes() < before + LARGE
    fill(LARGE)
    assert before + 0.9 * LARGE < peak.bytes() < before + 1.5 * LARGE


def test_a_system_that_cannot_tell_says_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(peak_memory, "_PROC", tmp_path / "nowhere")
    assert PeakMemory(CPU).bytes() is None
    assert PeakMemory(torch.device("mps")).bytes() is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell")
def test_a_run_records_its_peak(tmp_path, tiny_data):
    _, record = run(tmp_path, tiny_data, epochs=1)
    assert record.summary()["peak_memory_bytes"] > 10_000_000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_cuda_the_devices_tensors_are_counted():
    device = torch.device("cuda", 0)
    torch.ones(2 * LARGE, dtype=torch.uint8, device=device)
    peak = PeakMemory(device)
    before = torch.cuda.memory_allocated(device)
    torch.ones(LARGE, dtype=torch.uint8, device=device)
    assert before + LARGE <= peak.bytes() < before + 1.5 * LARGE
