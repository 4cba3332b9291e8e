"""Names of a teacher's classes: read from a file, or those of ImageNet by their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stillroom.errors import InputError
from stillroom.files import shown
from stillroom.reading import UnreadableError, parse_json, parse_yaml, read_text

_FORMS = "give one name a line, a JSON or YAML list, or a JSON or YAML mapping from index to name"


def read_class_names(path: str | Path, setting: str = "teacher_classes") -> tuple[str, ...]:
    """Read the names of a teacher's classes in the order of its outputs.

    Args:
        path: a text file with one name a line; or a ``.json``, ``.yaml`` or ``.yml`` file with a list of names, with a
            mapping from index to name, or with such a mapping under "id2label", as Hugging Face's ``config.json``.
        setting: that gives the file, for messages.

    Raises:
        InputError: the file cannot be read, holds no names, an index is missing, or a name is empty or not text.
    """
    path = Path(path)
    source = f"{setting}={shown(path)}"
    structured = path.suffix.lower() in (".json", ".yaml", ".yml")
    try:
        text = read_text(path).removeprefix("\ufeff")
        if structured:
            found = parse_json(text, path) if path.suffix.lower() == ".json" else parse_yaml(text, path)
        else:
            found = text.rstrip().splitlines()
    except OSError as error:
        raise InputError(f"{source} cannot be read ({error.strerror or error}): {_FORMS}") from error
    except UnreadableError as error:
        raise InputError(f"{source} cannot be read ({error.reason}): {_FORMS}") from error
    names = _in_order(source, found)
    if not names:
        raise InputError(f"{source} holds no names: {_FORMS}")
    for place, name in enumerate(names):
        where = f"index {place}" if structured else f"line {place + 1}"
        if not isinstance(name, str):
            raise InputError(f"{source}: {where} is {name!r}, not text: write it in quotes")
        if not name.strip():
            raise InputError(f"{source}: {where} is empty: give every class a name")
    return tuple(name.strip() for name in names)


def _in_order(source: str, found: Any) -> list[Any]:
    """The names of a list or of a mapping from index to name."""
    if isinstance(found, Mapping) and isinstance(found.get("id2label"), Mapping):
        found = found["id2label"]
    if isinstance(found, Mapping):
        by_index = {str(index): name for index, name in found.items()}
        missing = next((str(place) for place in range(len(by_index)) if str(place) not in by_index), None)
        if missing is not None:
            raise InputError(
                f"{source} has {len(by_index)} names but no index {missing}: number the classes from 0 without gaps"
            )
        return [by_index[str(place)] for place in range(len(by_index))]
    if found is not None and not isinstance(found, list):
        raise InputError(f"{source} holds neither a list nor a mapping: {_FORMS}")
    return found or []


def imagenet_synsets(class_count: int) -> tuple[str, ...] | None:
    """The WordNet ids of ImageNet's classes in the order of published models; None if no version has that number.

    The versions are those of timm: 1,000 classes (ILSVRC 2012), 11,221, 11,821, 21,841, 21,842 and 21,843.
    """
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": class_count})
    return None if subset is None else tuple(ImageNetInfo(subset).label_descriptions(as_dict=True))


def with_imagenet_words(names: Sequence[str]) -> tuple[str, ...]:
    """Add ImageNet's word to each name that is a WordNet id alone: "n01440764" becomes "n01440764 tench".

    Args:
        names: of all classes of a published model, so that their number tells the version of ImageNet.
    """
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": len(names)})
    if subset is None:
        return tuple(names)
    words: Any = ImageNetInfo(subset).label_descriptions(as_dict=True)
    return tuple(f"{name} {words[name].partition(',')[0]}" if words.get(name) else name for name in names)
