"""Class matching: find the teacher's class of each class of the data by equal names, WordNet id or ImageNet name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from stillroom.data.class_groups import synset_of
from stillroom.errors import InputError
from stillroom.files import shown
from stillroom.teachers.class_names import imagenet_synsets

# Fraction of names that stand at ImageNet's place, from which a list counts as ImageNet in its published order.
# Torchvision renames two of 1,000 classes.
IN_ORDER = 0.95

FILE_FIX = "give class_map a CSV or YAML file with two columns, teacher and data"


@dataclass(frozen=True, slots=True)
class Match:
    """Which teacher classes each class of the data could be.

    Attributes:
        candidates: for each class of the data the indices of the teacher's classes; one, or none where nothing fits.
        by: how they were found, in words.
    """

    candidates: tuple[tuple[int, ...], ...]
    by: str

    @property
    def found(self) -> int:
        """The number of classes of the data with a candidate."""
        return sum(1 for places in self.candidates if places)


def match_classes(teacher: Sequence[str] | None, class_count: int, data: Sequence[str]) -> Match | None:
    """Match the classes of the data to those of a teacher.

    The first of these ways that finds every class is taken, else the one that finds the most: equal names; names that
    are equal without case, spaces, underscores and hyphens; WordNet ids; names of ImageNet's classes.

    Args:
        teacher: the names of the teacher's classes; None where they are unknown.
        class_count: the number of the teacher's classes. Where names are unknown, it may be that of an ImageNet.
        data: the names of the data's classes.

    Returns:
        One candidate at most for each class of the data; None where nothing fits.

    Raises:
        InputError: a name fits several classes of the teacher, or two classes of the data fit the same one.
    """
    best = None
    for match in _ways(teacher, class_count, data):
        if best is None or match.found > best.found:
            best = match
        if match.found == len(data):
            break
    if best is None or not best.found:
        return None
    _refuse_ambiguous(best, teacher or imagenet_synsets(class_count) or (), data)
    return best


def _ways(teacher: Sequence[str] | None, class_count: int, data: Sequence[str]) -> Iterator[Match]:
    """The matches in the order of trust; each is computed only if those before it are incomplete."""
    if teacher is None:
        known: Sequence[str | None] = imagenet_synsets(class_count) or ()
        assumed = f", assuming that its {class_count:,} outputs are ImageNet's classes in the usual order"
    else:
        yield _by_key(teacher, data, lambda name: name, "equal names")
        yield _by_key(teacher, data, _plain, "names that are equal but for case, spaces, underscores and hyphens")
        known, assumed = _synsets(teacher) or _synsets_of_words(teacher), ""
    ids = _synsets(data)
    if ids is not None:
        table = defaultdict(list)
        for index, synset in enumerate(known):
            if synset is not None:
                table[synset].append(index)
        yield Match(_look_up(table, ids), f"WordNet id{assumed}")
    yield Match(_look_up(_word_table(known), [_plain(name) for name in data]), f"ImageNet name{assumed}")


def _by_key(teacher: Sequence[str], data: Sequence[str], key: Callable[[str], str], by: str) -> Match:
    table = defaultdict(list)
    for index, name in enumerate(teacher):
        table[key(name)].append(index)
    return Match(_look_up(table, [key(name) for name in data]), by)


def _look_up(table: Mapping[str, Sequence[int]], wanted: Sequence[str | None]) -> tuple[tuple[int, ...], ...]:
    return tuple(() if name is None else tuple(table.get(name, ())) for name in wanted)


def _synsets(names: Sequence[str]) -> tuple[str | None, ...] | None:
    """The WordNet ids that are written in names, or those of ImageNet if the names are its classes in its order."""
    written = tuple(map(synset_of, names))
    if any(written):
        return written
    order = imagenet_synsets(len(names))
    if order is None:
        return None
    in_place = sum(_plain(name) in _words(synset) for name, synset in zip(names, order, strict=True))
    return order if in_place >= IN_ORDER * len(names) else None


def _synsets_of_words(names: Sequence[str]) -> tuple[str | None, ...]:
    """The WordNet ids of names that stand for one class of ImageNet-1k; None for the others."""
    order = imagenet_synsets(1000) or ()
    table = _word_table(order)
    places = [table.get(_plain(name), ()) for name in names]
    return tuple(order[found[0]] if len(found) == 1 else None for found in places)


def _word_table(synsets: Sequence[str | None]) -> Mapping[str, Sequence[int]]:
    """The places of the classes that have a name, by name."""
    table = defaultdict(list)
    for index, synset in enumerate(synsets):
        for word in () if synset is None else _words(synset):
            table[word].append(index)
    return table


@lru_cache(maxsize=32_768)
def _words(synset: str) -> frozenset[str]:
    """The names of a WordNet id: each of its lemmas, and all of them in one text, as Hugging Face writes them."""
    try:
        lemmas: str = _imagenet().label_name_to_description(synset)
    except KeyError:  # not in any ImageNet
        return frozenset()
    return frozenset(_plain(word) for word in (*lemmas.split(","), lemmas))


@cache
def _imagenet() -> Any:
    from timm.data.imagenet_info import ImageNetInfo

    return ImageNetInfo()


def _plain(name: str) -> str:
    """A name without case, and with one space for each run of underscores, hyphens and spaces."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _refuse_ambiguous(match: Match, names: Sequence[str], data: Sequence[str]) -> None:
    """Refuse several candidates for a class of the data, and one candidate of several classes.

    Raises:
        InputError: one of these occurs.
    """
    owner: dict[int, str] = {}
    for name, places in zip(data, match.candidates, strict=True):
        if len(places) > 1:
            options = " or ".join(_described(names[place]) for place in places[:4])
            raise InputError(
                f"class_map=auto: the class {shown(name)} of the data could be {options}; name the classes of the data "
                f"by WordNet ids, or {FILE_FIX}"
            )
        for place in places:
            if place in owner:
                raise InputError(
                    f"class_map=auto: the classes {shown(owner[place])} and {shown(name)} of the data both fit the "
                    f"teacher's {_described(names[place])}; {FILE_FIX}"
                )
            owner[place] = name


def _described(name: str) -> str:
    """A class name, with lemmas and definition if it is no more than a WordNet id."""
    if synset_of(name) != name or not _words(name):
        return shown(name)
    return f"{name} ({shown(_imagenet().label_name_to_description(name, detailed=True), 80)})"
