"""Groups of close classes, and the choice of classes by their names, WordNet ids or groups."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from stillroom.errors import InputError, did_you_mean
from stillroom.files import first_few, shown
from stillroom.reading import read_yaml

_SYNSET = re.compile(r"(n\d{8})(?![0-9A-Za-z])")


def synset_of(name: str) -> str | None:
    """The WordNet id at the beginning of a class name: "n01443537 goldfish", "n01443537_goldfish"; None without one."""
    match = _SYNSET.match(name)
    return None if match is None else match[1]


@cache
def synset_groups() -> Mapping[str, frozenset[str]]:
    """The WordNet ids of each group, by the group's name; ``synset_groups.yaml`` states the rule and the source."""
    content = read_yaml(Path(__file__).with_name("synset_groups.yaml"))
    return {name: frozenset(group["classes"]) for name, group in content.items()}


def read_groups(path: Path) -> dict[str, frozenset[str]]:
    """Read groups of classes from a YAML file: a mapping from a group's name to a list of class names or WordNet ids.

    Raises:
        InputError: the file cannot be read, or has another form.
    """
    form = "write each group as NAME: [class, class]"
    try:
        content = read_yaml(path)
    except OSError as error:
        raise InputError(f"groups={shown(path)} cannot be read ({error.strerror}); {form}") from error
    if not isinstance(content, Mapping) or not all(isinstance(names, list) for names in content.values()):
        raise InputError(f"groups={shown(path)} is no mapping from names to lists; {form}")
    return {str(name): frozenset(map(str, names)) for name, names in content.items()}


def groups_among(
    classes: Sequence[str], groups: Mapping[str, frozenset[str]] | None = None
) -> dict[str, tuple[int, ...]]:
    """The groups of which a set has two classes or more.

    Args:
        classes: the names of the set's classes.
        groups: class names or WordNet ids by the group's name; None takes :func:`synset_groups`.

    Returns:
        By the group's name the places of its classes, ascending.
    """
    synsets = [synset_of(name) for name in classes]
    if groups is None:
        groups = synset_groups() if any(synsets) else {}
    found = {
        name: tuple(place for place, known in enumerate(zip(classes, synsets, strict=True)) if members & {*known})
        for name, members in groups.items()
    }
    return {name: places for name, places in found.items() if len(places) > 1}


def chosen_classes(wanted: Sequence[str], classes: Sequence[str]) -> tuple[int, ...]:
    """The places of the chosen classes, in the order of the set.

    Args:
        wanted: names of classes, their WordNet ids, or names of groups; a class name goes before a group's.
        classes: the names of the set's classes.

    Raises:
        InputError: a name is none of these, or fewer than two classes are chosen.
    """
    groups = groups_among(classes)
    by_name: dict[str, tuple[int, ...]] = dict(groups)
    by_name |= {synset: (place,) for place, name in enumerate(classes) if (synset := synset_of(name))}
    by_name |= {name: (place,) for place, name in enumerate(classes)}
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        import difflib

        hint = did_you_mean(difflib.get_close_matches(unknown[0], by_name, n=3))
        there = f"; its groups are {', '.join(groups)}" if groups else ""
        raise InputError(
            f"only_classes: the data set has no class or group named {first_few(unknown)}{hint}; its classes are "
            f"{first_few(list(classes))}{there}"
        )
    places = sorted({place for name in wanted for place in by_name[name]})
    if len(places) < 2:
        found = first_few([classes[place] for place in places]) or "no class"
        raise InputError(f"only_classes chooses {found}; give two classes or more, or a group")
    return tuple(places)
