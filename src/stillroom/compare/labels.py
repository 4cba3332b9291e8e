"""What a comparison calls its models, and which of them an earlier call on the same folder meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from stillroom.engine.resume_check import same_setting
from stillroom.engine.run_folder import RunFolder
from stillroom.prepare.weight_sources import is_path
from stillroom.resolve import is_run
from stillroom.run_names import slug


def own_name(label: str) -> str:
    """The run folder of a teacher that the comparison trains."""
    return f"{slug(label)}-s0"


def as_given(folder: Path, there: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """An earlier call's teachers as they were given to it, where its record says in which run they were trained."""
    teachers = dict(there)
    for label, place in there.items():
        if place != own_name(label):
            continue
        if is_run(folder / place):
            teachers[label] = str(RunFolder(folder / place).config()["model"])
        else:  # the call ended before it began to train this one
            teachers[label] = next((text for name, text in given.items() if short_label(name) == label), place)
    return teachers


def short_label(label: str) -> str:
    """A label without the folders or the module that lead to it."""
    return Path(label).name.rpartition(":")[2]


def shortened(models: dict[str, str], there: Mapping[str, str]) -> dict[str, str]:
    """Models by labels without the folders or the module that lead to them, where that leaves the labels distinct.

    Models of an earlier call on the same comparison keep theirs: their runs have it in their names.
    """
    kept = {text: label for text in models.values() if (label := _label_there(text, there)) is not None}
    short = {text: kept.get(text, short_label(label)) for label, text in models.items()}
    used = Counter([*short.values(), *(there.keys() - kept.values())])
    return {short[text] if text in kept or used[short[text]] == 1 else label: text for label, text in models.items()}


def _label_there(text: str, there: Mapping[str, str]) -> str | None:
    """What an earlier call called a model, which may be spelled otherwise now, or lie elsewhere."""
    labels = [label for label, other in there.items() if same_setting("model", text, other)]
    labels = labels or [label for label, other in there.items() if is_same_model(text, other)]
    return labels[0] if len(labels) == 1 else None


def is_same_model(here: object, there: object) -> bool:
    """Whether two values mean one model: the same, one folder, or a run folder that is not there any more, moved."""
    if same_setting("model", here, there):
        return True
    if not isinstance(here, str) or not isinstance(there, str):
        return False
    # Whether the weights are the same is seen when they are loaded.
    return is_run(here) and is_path(there) and not is_run(there) and Path(here).resolve().name == Path(there).name
