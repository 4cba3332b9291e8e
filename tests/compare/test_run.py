from __future__ import annotations

import pytest

from stillroom.compare.options import CompareOptions
from stillroom.compare.run import compare
from stillroom.errors import InputError


def test_a_comparison_under_torchrun_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"call it without torchrun, with jobs= or ray="):
        compare(CompareOptions(teachers="resnet20", students="resnet8"), {"data": "nowhere"})
