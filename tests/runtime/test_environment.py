"""What a run records of its machine."""

from __future__ import annotations

from importlib import metadata

import torch

from stillroom.runtime.environment import environment


def test_versions_and_processes_are_recorded(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    found = environment()
    assert found["versions"]["torch"] == metadata.version("torch")
    assert (found["processes"], found["cpu"]) == (3, torch.backends.cpu.get_cpu_capability())
