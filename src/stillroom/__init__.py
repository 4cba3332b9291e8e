"""Stillroom distils a big image classifier into a small one that keeps its accuracy.

``stillroom.losses`` stands alone: drop-in distillation losses for a training loop of your own.
``stillroom.distill``, ``stillroom.train`` and ``stillroom.evaluate`` are the whole road, as on the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stillroom.errors import InputError

if TYPE_CHECKING:
    from stillroom.api import Result, distill, evaluate, train

__all__ = ["InputError", "Result", "distill", "evaluate", "train"]


def __getattr__(name: str) -> Any:
    """Import the heavy parts when they are first used, so that ``import stillroom.losses`` stays light."""
    if name in __all__:
        from stillroom import api

        return getattr(api, name)
    raise AttributeError(f"module 'stillroom' has no attribute {name!r}")
