"""Settings: what a dataclass field says about one, and values of its type, whichever way they were given."""

from __future__ import annotations

import dataclasses
import math
import os
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from stillroom.errors import InputError, did_you_mean
from stillroom.files import require_text
from stillroom.reading import parse_yaml

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "names with values"}
Group = TypeVar("Group")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The description of one setting; its type and its default are those of its field.

    Attributes:
        help: its meaning, for ``--help`` and the reference.
        at_least: smallest value, of each number in a list too.
        above: bound that every value exceeds.
        at_most: largest value.
        below: bound that no value reaches.
        unit: of the number, for messages.
        may_change: another value is allowed when a run goes on, for it decides no result.
        path: its value may be a file or folder; two spellings of one place are the same value.
        axis: it tells the runs of one experiment apart; a comparison has a list of values in its place.
        view: it decides how images are shown to the models, not which images there are.
        fetches: the setting of the models whose published weights are fetched where this one is true.
    """

    help: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    unit: str = ""
    may_change: bool = False
    path: bool = False
    axis: bool = False
    view: bool = False
    fetches: str = ""

    def holds(self, value: Any) -> bool:
        """Whether a value of the setting's type lies in its range; text and None always do."""
        if isinstance(value, list):
            return all(map(self.holds, value))
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        return (
            math.isfinite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    @property
    def range(self) -> str:
        """The range in words: "above 0 and at most 1", "at least 8 pixels"."""
        named = (("at least", self.at_least), ("above", self.above), ("at most", self.at_most), ("below", self.below))
        bounds = " and ".join(f"{words} {bound:g}" for words, bound in named if bound is not None)
        return f"{bounds or 'a finite number'} {self.unit}".strip()


def setting(meaning: str, default: Any = dataclasses.MISSING, **described: Any) -> Any:
    """A dataclass field with the description of a setting.

    Args:
        meaning: :attr:`Setting.help`.
        default: its value where none is given; without one the setting is required.
        **described: the other attributes of :class:`Setting`.
    """
    metadata = {"setting": Setting(help=meaning, **described)}
    return dataclasses.field(default=default, metadata=metadata)


def settings_in(*groups: type) -> dict[str, Setting]:
    """The descriptions of all settings in dataclasses, by name."""
    return {f.name: f.metadata["setting"] for group in groups for f in dataclasses.fields(group)}


def defaults_in(*groups: type) -> dict[str, Any]:
    """The defaults of all settings in dataclasses that have one, by name."""
    fields = (f for group in groups for f in dataclasses.fields(group))
    return {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}


def described(group: type[Group]) -> type[Group]:
    """Add the settings of a dataclass to its docstring, for the reference."""
    lines = [f"    {name}: {setting.help}" for name, setting in settings_in(group).items()]
    group.__doc__ = "\n".join([f"{group.__doc__}", "", "Attributes:", *lines])
    return group


def make_group(group: type[Group], given: Mapping[str, Any]) -> Group:
    """Build a dataclass of settings from values of any origin.

    Args:
        group: the dataclass.
        given: values by name; those of other groups are left out.

    Raises:
        InputError: a setting is missing, of another type, or outside its range.
    """
    kinds, values = get_type_hints(group), {}
    for field in dataclasses.fields(group):  # type: ignore[arg-type]
        if field.default is dataclasses.MISSING and given.get(field.name) is None:
            raise InputError(f"{field.name} is missing: say which {field.name} to use")
        if field.name in given:
            value = as_kind(field.name, given[field.name], kinds[field.name])
            known: Setting = field.metadata["setting"]
            if not known.holds(value):
                raise InputError(f"{field.name}={value}: give {known.range}")
            values[field.name] = value
    return group(**values)


def as_kind(name: str, value: object, kind: Any, *, text: bool = False) -> Any:
    """Return a value as its setting's type, without loss: numpy's scalars as Python's, a path as text, a tuple as list.

    Args:
        name: of the setting, for the message.
        value: what was given.
        kind: the setting's annotation: int, float, bool, str, a ``Literal`` of texts, a list or a dict, or a union.
        text: whether a text may stand for a value of another type, as on the command line: "3", "true", "[3, 4]", or
            "a,b" for a list of names.

    Raises:
        InputError: the value is of another kind; a bool is no number, and a text is none either.
    """
    require_text(name, value)
    try:
        return _converted(value, kind, text)
    except (TypeError, ValueError, OverflowError, KeyError):
        shown = value if text else repr(value)
        raise InputError(f"{name}={shown}: give {in_words(kind)}{did_you_mean(_close(value, kind))}") from None


def in_words(kind: Any) -> str:
    """A type as a person says it: "a whole number", "sgd or adamw", "a list of numbers such as [0.5, 0.5]"."""
    if get_origin(kind) is Literal:
        return " or ".join(str(choice) for choice in get_args(kind))
    if get_origin(kind) is list:
        return {
            int: "a list of whole numbers such as [30, 40]",
            float: "a list of numbers such as [0.5, 0.5]",
            str: "a list of names such as [a, b]",
        }.get(get_args(kind)[0], "a list")
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(map(in_words, members(kind)))
    return WORDS[get_origin(kind) or kind]


def members(kind: Any) -> list[Any]:
    """The types of a union without None; a list of the type itself where it is no union."""
    union = get_origin(kind) in (Union, types.UnionType)
    return [part for part in get_args(kind) if part is not type(None)] if union else [kind]


def _converted(value: Any, kind: Any, text: bool) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _one_of(value, kind, text)
    if origin in (list, dict) and text and isinstance(value, str) and value[:1] in ("[", "{"):
        value = parse_yaml(value, Path("the command line"))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise TypeError
        return dict(value)
    if origin is list:
        if isinstance(value, str | Mapping) or not (isinstance(value, Sequence) or hasattr(value, "tolist")):
            raise TypeError
        return [_converted(item, inner[0], text) for item in value]
    value = value.item() if getattr(value, "shape", None) == () else value  # numpy's scalars
    if text and isinstance(value, str) and kind in (int, float, bool):
        value = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    return _scalar(value, kind)


def _one_of(value: Any, kind: Any, text: bool) -> Any:
    """A value as the first member of a union that it fits."""
    if type(None) in get_args(kind) and (value is None or (text and value == "null")):
        return None
    for member in members(kind):
        with suppress(TypeError, ValueError, OverflowError, KeyError):
            return _converted(value, member, text)
    if text and isinstance(value, str) and list[str] in members(kind):
        return [name.strip() for name in value.split(",")]
    raise TypeError


def _scalar(value: Any, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        name = str(value) if isinstance(value, int) and not isinstance(value, bool) else value  # precision: 32
        if name in get_args(kind):
            return name
    elif kind is bool:
        if isinstance(value, bool):
            return value
    elif kind is str:
        if isinstance(value, str | os.PathLike) and isinstance(name := os.fspath(value), str):
            return name
    elif not isinstance(value, bool) and isinstance(value, Integral if kind is int else Real):
        return kind(value)
    raise TypeError


def _close(value: object, kind: Any) -> list[str]:
    import difflib

    choices = [str(choice) for part in members(kind) if get_origin(part) is Literal for choice in get_args(part)]
    return difflib.get_close_matches(str(value).lower(), choices, n=1)
