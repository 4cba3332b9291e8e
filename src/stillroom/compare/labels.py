"""Labels of the models in a comparison, short and stable over later calls on the same folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from stillroom.engine.resume_check import same_setting
from stillroom.engine.run_folder import RunFolder
from stillroom.prepare.name_checks import is_path
from stillroom.resolve_model import is_run
from stillroom.run_names import slug


def own_name(label: str) -> str:
    """Name of the run folder of a teacher that the comparison trains."""
    return f"{slug(label)}-s0"


def as_given(folder: Path, there: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """An earlier call's teachers as the user wrote them; its record names the run that trained them instead."""
    teachers = dict(there)
    for label, place in there.items():
        if place != own_name(label):
            continue
        if is_run(folder / place):
            teachers[label] = str(RunFolder(folder / place).config()["model"])
        else:  # the earlier call ended before it trained this teacher
            teachers[label] = next((text for name, text in given.items() if short_label(name) == label), place)
    return teachers


def short_label(label: str) -> str:
    """A label without leading folders, package or module."""
    return Path(label).name.rpartition(":")[2]


def short_labels(models: dict[str, str], there: Mapping[str, str]) -> dict[str, str]:
    """Models by short labels, where short labels are distinct.

    Models of an earlier call on the same comparison keep their labels, which are part of the names of their runs.
    """
    kept = {text: label for text in models.values() if (label := _label_there(text, there)) is not None}
    short = {text: kept.get(text, short_label(label)) for label, text in models.items()}
    used = Counter([*short.values(), *(there.keys() - kept.values())])
    return {short[text] if text in kept or used[short[text]] == 1 else label: text for label, text in models.items()}


def _label_there(text: str, there: Mapping[str, str]) -> str | None:
    """The label that an earlier call gave to a model, whose path may be spelled differently now or have moved."""
    labels = [label for label, other in there.items() if same_setting("model", text, other)]
    labels = labels or [label for label, other in there.items() if is_same_model(text, other)]
    return labels[0] if len(labels) == 1 else None


def is_same_model(here: object, there: object) -> bool:
    """Whether two values name one model: equal, the same folder, or a run folder that was moved."""
    if same_setting("model", here, there):
        return True
    if not isinstance(here, str) or not isinstance(there, str):
        return False
    # Weights are compared when they are loaded.
    return is_run(here) and is_path(there) and not is_run(there) and Path(here).resolve().name == Path(there).name
