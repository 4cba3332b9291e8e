"""Other sets: data sets that a network was not trained on, at the size at which it takes images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from stillroom.data import DataSet, load_data
from stillroom.data.load_data import what_is_learned
from stillroom.data.named_sets import NAMED_SETS
from stillroom.errors import InputError
from stillroom.probe.subject import Subject


def set_labels(option: str, texts: Sequence[str]) -> dict[str, str]:
    """The label of each set in records and tables -> its name or folder, as it was given.

    Args:
        option: the setting that names the sets, for the message.
        texts: names of sets, or folders.

    Raises:
        InputError: a set has boxes, or is given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        if what_is_learned(text) == "detection":
            raise InputError(f"{option}={text}: its images have boxes and no class each; give a set for classification")
        label = text if text in NAMED_SETS else Path(text).expanduser().resolve().name
        label = text if label in found else label
        if label in found:
            raise InputError(f"{option}={text} is given twice; give each set once")
        found[label] = text
    return found


def load_other(option: str, text: str, subject: Subject) -> DataSet:
    """A set, resized to the images of a subject's run.

    Args:
        option: the setting that names it, for the message.
        text: name of a set, or folder.
        subject: the network that will see the images.

    Raises:
        InputError: it cannot be loaded, or its images have other channels.
    """
    channels, height, width = subject.data.input_shape
    view = max(subject.data.train.shape[1:])
    try:
        data = _loaded(text, subject.options.root, max(height, width), view)
    except InputError as error:
        raise InputError(f"{option}={text}: {error}") from error
    if data.train.shape[0] != channels:
        raise InputError(
            f"{option}={text}: its images have {data.train.shape[0]} channels, those of {subject.run.path} have "
            f"{channels}; give a set of images with {channels}"
        )
    return data


@lru_cache(maxsize=4)
def _loaded(text: str, root: str, side: int, view: int) -> DataSet:
    return load_data(text, root=root, image_size=side, view_size=view if view > side else None)
