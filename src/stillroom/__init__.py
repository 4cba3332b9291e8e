"""Stillroom distils a big image classifier into a small one that keeps its accuracy.

``stillroom.losses`` and ``stillroom.optim`` stand alone: distillation losses, and optimizers that keep gradients apart,
for a training loop of your own.
``stillroom.train``, ``stillroom.distill``, ``stillroom.evaluate`` and ``stillroom.predict_images`` do what the command
line does.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from stillroom.errors import InputError

if TYPE_CHECKING:
    from stillroom.api import Result, distill, evaluate, train
    from stillroom.image_prediction import FilePrediction, predict_images

__all__ = ["FilePrediction", "InputError", "Result", "distill", "evaluate", "predict_images", "train"]

_PARTS = ("data", "export", "losses", "methods", "models", "optim")  # packages that need no import of their own


def __getattr__(name: str) -> Any:
    """Import the heavy parts when they are first used, so that ``import stillroom.losses`` stays light."""
    if name in __all__:
        home = "image_prediction" if name in ("FilePrediction", "predict_images") else "api"
        return getattr(importlib.import_module(f"stillroom.{home}"), name)
    if name in _PARTS:
        return importlib.import_module(f"stillroom.{name}")
    raise AttributeError(f"module 'stillroom' has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    """What there is to use, imported or not."""
    return sorted({*globals(), *__all__, *_PARTS})
