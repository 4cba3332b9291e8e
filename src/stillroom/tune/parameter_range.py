"""The range of one parameter: how it is written in a file of spaces, its default, and values inside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillroom.errors import InputError
from stillroom.report.tuning_record import Value

KEYS = {"times", "low", "high", "log", "whole", "choices", "fraction", "default", "at_most"}
FORMS = (
    "write {times: [0.25, 4]}, {low: 1, high: 12}, {choices: [a, b]} or {fraction: [0, 0.3]}, with log: true, whole: "
    "true or default: VALUE"
)
CLASSES = "classes"


@dataclass(frozen=True, kw_only=True)
class Range:
    """The values that a parameter may take.

    Attributes:
        default: the value of the first trial.
        low: smallest number.
        high: largest number.
        log: whether the scale is logarithmic.
        whole: whether the numbers are whole.
        fraction: whether the numbers are fractions of a run's epochs.
        choices: the values, where they are no numbers between two ends.
    """

    default: Value
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    fraction: bool = False
    choices: tuple[Value, ...] = ()

    @property
    def content(self) -> dict[str, Any]:
        """The range as in a file of spaces, without reference to other values."""
        if self.choices:
            return {"choices": list(self.choices), "default": self.default}
        if self.fraction:
            return {"fraction": [self.low, self.high], "default": self.default}
        flags = {name: True for name in ("log", "whole") if getattr(self, name)}
        return {"low": self.low, "high": self.high, **flags, "default": self.default}

    @property
    def ends(self) -> tuple[Value, ...]:
        """The smallest and the largest value, or all choices."""
        return self.choices or (self.low, self.high)

    def rounded(self, value: Value) -> Value:
        """A value with four significant digits, inside the range."""
        if self.choices or isinstance(value, bool | str):
            return value
        if self.whole:
            return int(value)
        return min(max(four_digits(value), self.low), self.high)

    def __contains__(self, value: object) -> bool:
        if self.choices:
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high


def read_range(where: str, content: object, default: Any, classes: int, *, written: bool = False) -> Range | None:
    """Read a range from a file of spaces.

    Args:
        where: names the parameter, for messages.
        content: as in the file.
        default: the parameter's value where nothing is tuned; for ``fraction`` already a fraction; None if it has none.
        classes: the number of classes.
        written: whether the user has written the default; any other is lowered to ``at_most``.

    Returns:
        The range; None where it is ``times`` of a default of 0, which has no range.

    Raises:
        InputError: it is none of the forms, or the default lies outside it.
    """
    if not isinstance(content, Mapping) or not content or not KEYS.issuperset(content):
        raise InputError(f"{where}: {content!r} is no range; {FORMS}")
    default = content.get("default") if default is None else default
    if default is None:
        raise InputError(f"{where} has no default of its own; add default: VALUE to its range")
    if "choices" in content:
        found = _choices(where, content, default)
    else:
        if isinstance(default, bool) or not isinstance(default, int | float):
            raise InputError(f"{where}: its default {default!r} is no number; write {{choices: [...]}}")
        if "times" in content and default == 0:
            return None
        found = _numbers(where, content, default, classes, written=written)
    if found.default not in found:
        ends = ", ".join(map(str, found.choices)) or f"{found.low:g} to {found.high:g}"
        raise InputError(
            f"{where}: its default {found.default} lies outside {ends}; give space= with a range around it"
        )
    return found


def _choices(where: str, content: Mapping[str, Any], default: Value) -> Range:
    choices = content["choices"]
    plain = isinstance(choices, list) and all(isinstance(one, int | float | str | bool) for one in choices)
    if not plain or not choices or content.keys() - {"choices", "default"}:
        raise InputError(f"{where}: {dict(content)!r} is no range; write {{choices: [a, b]}}")
    return Range(default=default, choices=tuple(choices))


def _numbers(where: str, content: Mapping[str, Any], default: float, classes: int, *, written: bool) -> Range:
    """A range between two numbers; ends and default have four significant digits."""
    form = next((name for name in ("times", "fraction") if name in content), None)
    given = content[form] if form else [content.get("low"), content.get("high")]
    log = bool(content.get("log", form == "times"))
    whole = bool(content.get("whole", form == "times" and isinstance(default, int)))
    if not isinstance(given, list) or len(given) != 2 or not all(map(_is_finite, given)):
        raise InputError(f"{where}: {dict(content)!r} is no range; {FORMS}")
    low, high = (float(end) * default if form == "times" else float(end) for end in given)
    limit = content.get("at_most", math.inf)
    limit = classes if limit == CLASSES else float(limit)
    low, high = min(low, limit), min(high, limit)
    if whole:
        low, high, default = math.ceil(low), math.floor(high), int(default if written else min(default, high))
    else:
        low, high, default = four_digits(low), four_digits(high), four_digits(default)
    if form == "fraction" and not 0 <= low <= high <= 1:
        raise InputError(f"{where}: fraction={given}: give two numbers from 0 to 1, the smaller one first")
    if low > high or (log and low <= 0):
        raise InputError(f"{where}: from {low} to {high} is no range{'' if low > high else ' on a logarithmic scale'}")
    return Range(default=default, low=low, high=high, log=log, whole=whole, fraction=form == "fraction")


def four_digits(value: float) -> float:
    """A number with four significant digits."""
    return float(f"{value:.4g}")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
