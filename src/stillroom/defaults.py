"""The defaults that depend on other settings: the learning rate, and when it falls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stillroom.reading import UnreadableError, read_yaml

# In the names of light networks. Published recipes train MobileNets and ShuffleNets with a fifth of the usual rate; at
# the usual one LDRLD teaches those that were tried next to nothing (benchmarks/results/mobilenet.md).
DEPTHWISE = ("mobilenet", "shuffle", "efficientnet", "mnasnet")


def usual_lr(optimizer: str, model: str) -> float:
    """The peak learning rate for a model: 0.05 for sgd, 0.01 for light networks with it, 0.001 for adamw.

    Args:
        optimizer: sgd or adamw.
        model: as a recipe names it.
    """
    if optimizer != "sgd":
        return 1e-3
    name = architecture(model).lower()
    return 0.01 if any(kind in name for kind in DEPTHWISE) else 0.05


def architecture(model: str) -> str:
    """What a model calls itself, without any folder, package or module that leads to it.

    A name of the zoo is itself; of a timm or torchvision model it is the name behind the colon; of a function or class,
    and of a module that was handed in from Python, the name of the function or class; of a run folder, what the run
    trains. Of anything else, a folder of timm's ``local-dir:`` for instance, it is empty: a path says nothing.

    Args:
        model: as a recipe names it.
    """
    for _ in range(10):  # runs that began from runs
        config = Path(model) / "config.yaml"
        if not config.is_file():
            break
        model = _trained(config)
    source, colon, name = model.partition(":")
    if not colon:
        return "" if any(mark in model for mark in "/\\") else model.rpartition(".")[2]
    if source not in ("timm", "torchvision"):
        return name
    hub, _, address = name.rpartition(":")  # timm:hf-hub:someone/mobilenetv3_large
    return "" if hub == "local-dir" else address.rpartition("/")[2]


def _trained(config: Path) -> str:
    """The model that a run trains; nothing where the file cannot be read, which is told when the run is used."""
    try:
        settings: Any = read_yaml(config)
    except (OSError, UnreadableError):
        return ""
    return str(settings.get("model") or settings.get("student") or "") if isinstance(settings, dict) else ""


def usual_milestones(epochs: int) -> Sequence[int]:
    """The epochs after which the rate falls: 5/8, 6/8 and 7/8 of the run, as published (150, 180 and 210 of 240).

    In runs of fewer than 7 epochs some of them coincide or come with the end. Each is taken once, and none that no
    epoch follows: 6 epochs have 4 and 5, 1 epoch has none.

    Args:
        epochs: of the run, >= 1.
    """
    return sorted({milestone for part in (5, 6, 7) if 0 < (milestone := round(epochs * part / 8)) < epochs})
