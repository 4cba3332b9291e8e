"""Settings and methods of a run whose schedule takes another number of epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillroom.methods.method_text import read_summands, write_summands

IN_EPOCHS = ("warmup", "initial_epochs", "loops", "top_k_epochs")  # parameters of losses that count epochs


def at_length(settings: Mapping[str, Any], epochs: int, whole: int) -> dict[str, Any]:
    """Settings of a run whose whole schedule takes another number of epochs.

    Args:
        settings: by name, of a run of ``whole`` epochs.
        epochs: of the other run.
        whole: of the run that the settings are for.
    """
    found = {**settings, "epochs": epochs}
    if settings.get("milestones") is not None:
        scaled = {max(1, in_epochs(milestone / whole, epochs)) for milestone in settings["milestones"]}
        found["milestones"] = sorted(milestone for milestone in scaled if milestone < epochs)
    for name in ("warmup_epochs", "freeze_epochs"):
        if settings.get(name):
            found[name] = in_epochs(settings[name] / whole, epochs)
    if found.get("warmup_epochs") == 1 and epochs > 1:
        found["warmup_epochs"] = 2  # with milestones, 1 changes nothing and is refused
    return found


def method_at_length(text: str, epochs: int, whole: int) -> str:
    """The text of a method in a run of another number of epochs: its warm-up keeps its share, at least one epoch.

    Args:
        text: of a method in a run of ``whole`` epochs.
        epochs: of the other run.
        whole: of the run that the text is for.
    """
    summands = read_summands(text)
    for call in (call for summand in summands for call in summand.call.chain):
        for name in IN_EPOCHS:
            if count := call.arguments.get(name):
                call.arguments[name] = max(1, in_epochs(count / whole, epochs))
    return write_summands(summands)


def in_epochs(fraction: float, epochs: int) -> int:
    """A fraction of a run in whole epochs."""
    return round(fraction * epochs)
