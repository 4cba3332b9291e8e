from __future__ import annotations

import sys
import types

import pytest
import torch

from stillroom.probe import energy
from stillroom.probe.energy import joules_of


@pytest.fixture
def counters(monkeypatch):
    """Made-up counters in the place of Zeus: a device uses 5 J during a call, memory 2 J."""

    class Monitor:
        def __init__(self, gpu_indices, approx_instant_energy):
            self.gpus, self.exact = gpu_indices, not approx_instant_energy

        def begin_window(self, key):
            self.key = key

        def end_window(self, key):
            assert (key, self.exact) == (self.key, True)
            told = types.SimpleNamespace(gpu_energy=dict.fromkeys(self.gpus, 5.0), cpu_energy=None, dram_energy=None)
            if self.gpus == []:
                told.cpu_energy, told.dram_energy = {0: 5.0, 1: 5.0}, {0: 2.0}
            return told

    module = types.ModuleType("zeus.monitor")
    module.ZeusMonitor = Monitor
    monkeypatch.setitem(sys.modules, "zeus", types.ModuleType("zeus"))
    monkeypatch.setitem(sys.modules, "zeus.monitor", module)
    monkeypatch.setattr(energy, "find_spec", lambda name: True)
    return Monitor


def test_a_cpu_counts_all_packages_and_their_memory_and_a_gpu_only_itself(counters):
    done = []
    assert joules_of(lambda: done.append(1), torch.device("cpu")) == 12.0
    assert joules_of(lambda: done.append(1), torch.device("cuda", 3)) == 5.0
    assert done == [1, 1]


def test_what_cannot_be_read_is_none_and_the_call_may_be_left_out(counters, monkeypatch):
    assert joules_of(lambda: None, torch.device("mps")) is None
    monkeypatch.setattr(counters, "end_window", lambda *_: types.SimpleNamespace(cpu_energy=None, dram_energy=None))
    assert joules_of(lambda: None, torch.device("cpu")) is None
    monkeypatch.setattr(energy, "find_spec", lambda name: None)
    assert joules_of(lambda: None, torch.device("cpu")) is None


def test_zeus_itself_answers_on_this_machine():
    pytest.importorskip("zeus")
    found = joules_of(lambda: torch.ones(64, 64) @ torch.ones(64, 64), torch.device("cpu"))
    assert found is None or found >= 0
