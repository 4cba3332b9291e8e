from __future__ import annotations

import pytest

from stillroom.teachers import bank, bank_files


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 16 positions."""
    monkeypatch.setattr(bank, "BLOCK", 16)
    monkeypatch.setattr(bank_files, "FREE_FRACTION", 0.0)  # however full the disk of the machine is
