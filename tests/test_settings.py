"""A value is of its setting's type and in its range, or refused in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from stillroom.errors import InputError
from stillroom.settings import Setting, as_kind, described, make_group, setting


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        (np.int64(3), int, 3),
        (3, float, 3.0),
        (np.float32(0.5), float | None, 0.5),
        (None, float | None, None),
        (Path("runs"), str, "runs"),
        ((30, 40), list[int] | None, [30, 40]),
        (np.array([30, 40]), list[int], [30, 40]),
        (32, Literal["auto", "32"], "32"),
        (True, bool, True),
    ],
)
def test_a_value_becomes_that_of_its_setting_without_loss(value, kind, wanted):
    found = as_kind("x", value, kind)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("value", "kind", "says"),
    [
        ("3", int, r"x='3': give a whole number"),
        (2.5, int, r"x=2\.5: give a whole number"),
        (True, float, r"x=True: give a number"),
        (1, bool, r"x=1: give true or false"),
        (b"runs", str, r"x=b'runs': give text"),
        ("30", list[int], r"x='30': give a list of whole numbers such as \[30, 40\]"),
        ("SGD", Literal["sgd", "adamw"], r"x='SGD': give sgd or adamw; did you mean sgd\?"),
        (None, int, r"x=None: give a whole number"),
    ],
)
def test_a_value_of_another_kind_is_refused_in_words(value, kind, says):
    with pytest.raises(InputError, match=says):
        as_kind("x", value, kind)


@described
@dataclass(frozen=True, kw_only=True)
class Pot:
    """A pot."""

    size: int = setting("litres", at_least=1)
    heat: list[float] | None = setting("of each plate", None, above=0, at_most=9, unit="watts")


def test_a_group_is_built_from_the_values_that_are_its_own():
    assert make_group(Pot, {"size": 2, "heat": (1, 9), "other": 3}) == Pot(size=2, heat=[1.0, 9.0])
    assert "    size: litres" in str(Pot.__doc__)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "size is missing: say which size to use"),
        ({"size": 0}, "size=0: give at least 1"),
        ({"size": 1.0}, r"size=1\.0: give a whole number"),
        ({"size": 1, "heat": [1.0, 0.0]}, r"heat=\[1\.0, 0\.0\]: give above 0 and at most 9 watts"),
        ({"size": 1, "heat": [float("nan")]}, r"heat=\[nan\]: give"),
    ],
)
def test_a_missing_value_and_one_outside_its_range_are_named(given, says):
    with pytest.raises(InputError, match=says):
        make_group(Pot, given)


def test_a_text_stands_for_a_value_only_where_there_is_nothing_but_text():
    assert as_kind("x", "1e-2", float, text=True) == 0.01
    assert as_kind("x", ["3", 4], list[int] | None, text=True) == [3, 4]
    for value, kind in (("3.0", int), ("yes", bool), ("3", list[int]), ("[3", list[int])):
        with pytest.raises(InputError, match=r"^x=.*: give"):
            as_kind("x", value, kind, text=True)
    assert Setting(help="", above=0).holds(float("inf")) is False
