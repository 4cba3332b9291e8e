from __future__ import annotations

import pytest

from stillroom.teachers import bank, bank_files
from tests.teachers.onnx_models import torch_and_onnx


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """A network with random weights for images of 8x8, and its ONNX file."""
    path = tmp_path_factory.mktemp("network") / "net.onnx"
    return torch_and_onnx(path), path


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 16 positions."""
    monkeypatch.setattr(bank, "BLOCK", 16)
    monkeypatch.setattr(bank_files, "FREE_FRACTION", 0.0)  # however full the disk of the machine is
