from __future__ import annotations

import sys
import types

import pytest
import torch

from stillroom.probe import energy
from stillroom.probe.energy import joules_of

UUID = "5d3a-11"


class NoCounterError(Exception):
    pass


class Counter:
    """A made-up NVML: the counter of one GPU rises by 5 J in each call."""

    NVMLError = NoCounterError

    def __init__(self):
        self.millijoules, self.broken = 70_000, False

    def nvmlInit(self):  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        assert uuid == f"GPU-{UUID}"
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        if self.broken:
            raise NoCounterError(handle)
        return self.millijoules

    def work(self):
        self.millijoules += 5_000


@pytest.fixture
def counter(monkeypatch):
    made = Counter()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.setattr(energy, "find_spec", lambda name: made)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid=UUID))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    return made


def test_the_energy_is_what_the_counter_of_this_gpu_rises_by(counter):
    assert joules_of(counter.work, torch.device("cuda", 3)) == 5.0


def test_a_gpu_without_a_counter_another_device_and_a_missing_package_have_none(counter, monkeypatch):
    assert joules_of(counter.work, torch.device("cpu")) is None
    counter.broken = True
    assert joules_of(counter.work, torch.device("cuda")) is None
    monkeypatch.setattr(energy, "find_spec", lambda name: None)
    assert joules_of(counter.work, torch.device("cuda")) is None


def test_the_package_has_the_functions_that_are_called():
    pynvml = pytest.importorskip("pynvml")
    for name in ("nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTotalEnergyConsumption"):
        assert callable(getattr(pynvml, name))
    assert issubclass(pynvml.NVMLError, Exception)
