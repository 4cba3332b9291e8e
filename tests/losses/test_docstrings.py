"""The examples in the docstrings of the losses."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import torch

from stillroom import losses

MODULES = [found.name for found in pkgutil.walk_packages(losses.__path__, "stillroom.losses.") if not found.ispkg]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    if name.endswith("numba"):
        pytest.importorskip("numba")
    module = importlib.import_module(name)
    torch.manual_seed(0)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
    assert doctest.testmod(module, optionflags=options).failed == 0
