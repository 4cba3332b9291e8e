"""A value is of the kind that its setting needs, or refused with words for the kind."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from stillroom.errors import InputError
from stillroom.setting_types import as_kind


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
