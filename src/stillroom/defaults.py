"""Defaults that depend on other settings: the schedule, the learning rate, its milestones, and the weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from stillroom.errors import InputError
from stillroom.optimizer_names import MOMENTUM_SGD, timm_default
from stillroom.reading import UnreadableError, read_yaml

Schedule = Literal["milestones", "cosine", "onecycle", "constant"]

# Parts of the names of depthwise networks. Published recipes train MobileNets and ShuffleNets with a fifth of the usual
# learning rate; with the usual one LDRLD fails on those that were measured (benchmarks/results/mobilenet.md).
DEPTHWISE = ("mobilenet", "shuffle", "efficientnet", "mnasnet")
# Of these the ones that a processor trains faster in float32 than in bf16 (benchmarks/results/precision.md).
SLOW_IN_BF16 = ("mobilenet", "shufflenet", "efficientnet", "mnasnet")
DETECTORS = ("rcnn", "detector")  # published ones train at 0.02 with 16 images a batch


def usual_schedule(optimizer: str, *, steps_down: bool) -> Schedule:
    """The default schedule: one cycle for sgd, milestones for dot and deepkd as published, cosine for others.

    Args:
        optimizer: a name that :func:`stillroom.optimizer_names.require_optimizer` accepts.
        steps_down: whether a setting is given that only milestones have.
    """
    if optimizer == "sgd" and not steps_down:
        return "onecycle"
    return "milestones" if optimizer in MOMENTUM_SGD else "cosine"


def usual_lr(optimizer: str, model: str, schedule: str) -> float:
    """The default peak learning rate.

    It is 0.001 for adamw; 0.05 for sgd, dot and deepkd, and 0.01 for these with depthwise networks and detectors; twice
    that for sgd with one cycle, which is at its peak for a few steps only; for an optimizer of timm its own.

    Args:
        optimizer: as for :func:`usual_schedule`.
        model: the setting ``model`` or ``student``.
        schedule: of the learning rate.

    Raises:
        InputError: the optimizer has no default.
    """
    if optimizer == "adamw":
        return 1e-3
    if optimizer not in MOMENTUM_SGD:
        found = timm_default(optimizer, "lr")
        if not found:
            raise InputError(f"lr is missing: optimizer={optimizer} has no default learning rate; give lr")
        return found
    name = _architecture(model).lower()
    usual = 0.01 if any(kind in name for kind in (*DEPTHWISE, *DETECTORS)) else 0.05
    return 2 * usual if (optimizer, schedule) == ("sgd", "onecycle") else usual


def is_slow_in_bf16(model: str) -> bool:
    """Whether a processor with bf16 trains a model faster in float32, as most depthwise networks.

    Args:
        model: the setting ``model`` or ``student``.
    """
    name = _architecture(model).lower()
    return any(kind in name for kind in SLOW_IN_BF16)


def _architecture(model: str) -> str:
    """The name of a model's architecture, without folder, package or module.

    For a model of the zoo it is the name itself; for a timm or torchvision model, the name behind the colon; for a
    function, a class or a module from Python, the name of the function or class; for a run folder, the architecture
    that the run trained. For other paths, such as timm's ``local-dir:``, it is empty.

    Args:
        model: the setting ``model`` or ``student``.
    """
    for _ in range(10):  # runs that started from runs
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
    """The model that a run trained; empty if the file cannot be read, which is an error once the run is used."""
    try:
        settings: Any = read_yaml(config)
    except (OSError, UnreadableError):
        return ""
    return str(settings.get("model") or settings.get("student") or "") if isinstance(settings, dict) else ""


def usual_weight_decay(optimizer: str) -> float:
    """The default weight decay: 0.0005 for sgd, dot and deepkd, 0.05 for adamw, for an optimizer of timm its own.

    Args:
        optimizer: as for :func:`usual_schedule`.
    """
    if optimizer in MOMENTUM_SGD:
        return 5e-4
    return 0.05 if optimizer == "adamw" else timm_default(optimizer, "weight_decay") or 0.0


def usual_milestones(epochs: int) -> Sequence[int]:
    """The epochs after which the learning rate falls: 5/8, 6/8 and 7/8 of the run, as published (150, 180, 210 of 240).

    Below 7 epochs some of these coincide or fall on the end of the run. Each is kept once, if an epoch follows: 6
    epochs have 4 and 5, 1 epoch has none.

    Args:
        epochs: length of the run, >= 1.
    """
    return sorted({milestone for part in (5, 6, 7) if 0 < (milestone := round(epochs * part / 8)) < epochs})
