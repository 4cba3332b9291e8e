"""Whether a value is of the kind that a setting asks for, whichever door it came through."""

from __future__ import annotations

import os
import types
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin

from stillroom.errors import InputError, did_you_mean

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def as_kind(name: str, value: object, kind: Any) -> Any:
    """Return a value as its setting's type, without loss: numpy's scalars as Python's, a path as text, a tuple as list.

    Args:
        name: of the setting, for the message.
        value: what was given.
        kind: the setting's annotation: int, float, bool, str, a ``Literal`` of texts, a list of one of these, or one of
            them or None.

    Raises:
        InputError: the value is of another kind; a bool is no number, and a text is none either.
    """
    try:
        return _converted(value, kind)
    except (TypeError, OverflowError):
        close = _close(value, kind)
        raise InputError(f"{name}={value!r}: give {in_words(kind)}{did_you_mean(close)}") from None


def in_words(kind: Any) -> str:
    """A type as a person says it: "a whole number", "sgd or adamw", "a list of numbers such as [0.5, 0.5]"."""
    origin, inner = get_origin(kind), [part for part in get_args(kind) if part is not type(None)]
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(part) for part in inner)
    if origin is Literal:
        return " or ".join(str(choice) for choice in inner)
    if origin is list:
        return "a list of whole numbers such as [30, 40]" if inner == [int] else "a list of numbers such as [0.5, 0.5]"
    return WORDS[kind]


def _converted(value: Any, kind: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        (kind,) = (part for part in inner if part is not type(None))
        return _converted(value, kind)
    if origin is list:
        if isinstance(value, str) or not (isinstance(value, Sequence) or hasattr(value, "tolist")):
            raise TypeError
        return [_converted(item, inner[0]) for item in value]
    value = value.item() if getattr(value, "shape", None) == () else value  # numpy's scalars
    if origin is Literal:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value  # precision: 32
        if text in inner:
            return text
    elif kind is bool:
        if isinstance(value, bool):
            return value
    elif kind is str:
        if isinstance(value, str | os.PathLike) and isinstance(text := os.fspath(value), str):
            return text
    elif not isinstance(value, bool) and isinstance(value, Integral if kind is int else Real):
        return kind(value)
    raise TypeError


def _close(value: object, kind: Any) -> list[str]:
    import difflib

    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    choices = [str(choice) for choice in get_args(kind)] if get_origin(kind) is Literal else []
    return difflib.get_close_matches(str(value).lower(), choices, n=1)
