from __future__ import annotations

import pytest

from stillroom.errors import InputError
from stillroom.tune.parameter_range import read_range


def read(content, default=4.0, classes=10):
    return read_range("kd: temperature", content, default, classes)


def test_every_form_has_its_ends_and_is_read_again_as_it_is_recorded():
    assert read({"times": [0.25, 4]}).ends == (1.0, 16.0)
    assert read({"times": [0.25, 4]}, 100).ends == (25, 400)
    assert read({"low": 1, "high": 12}).ends == (1.0, 12.0)
    assert read({"low": 2, "high": 16, "whole": True, "at_most": "classes"}, 7, classes=5).ends == (2, 5)
    assert read({"low": 4, "high": 16, "whole": True, "at_most": "classes"}, 7, classes=3).ends == (3, 3)
    assert read({"fraction": [0, 0.3]}, 20 / 240).default == 0.08333
    for content, default in (
        ({"times": [0.25, 4]}, 4.0),
        ({"low": 1, "high": 9, "log": True, "whole": True}, 7),
        ({"fraction": [0.05, 0.3]}, 0.125),
        ({"choices": ["a", "b"]}, "b"),
    ):
        one = read(content, default)
        assert read(one.content, one.default) == one


def test_a_parameter_without_a_default_takes_that_of_its_range_and_times_of_nothing_is_no_range():
    assert read({"low": 2, "high": 16, "whole": True, "default": 7}, None).default == 7
    assert read({"times": [0.25, 4]}, 0.0) is None


def test_values_are_rounded_and_stay_inside():
    one = read({"low": 1, "high": 12})
    assert one.rounded(3.14159265) == 3.142
    assert one.rounded(12.00000001) == 12.0


@pytest.mark.parametrize(
    ("content", "default", "words"),
    [
        ({"low": 5, "high": 12}, 4.0, "its default 4.0 lies outside 5 to 12"),
        ({"low": 5}, 4.0, "is no range"),
        ({"from": 5, "to": 6}, 4.0, "is no range"),
        ("log", 4.0, "is no range"),
        ({"low": 0, "high": 12, "log": True}, 4.0, "no range on a logarithmic scale"),
        ({"low": 5, "high": 1}, 4.0, "from 5.0 to 1.0 is no range"),
        ({"low": 1, "high": 12}, None, "has no default of its own; add default"),
        ({"choices": ["a", "b"]}, "c", "its default c lies outside a, b"),
        ({"low": 1, "high": 12}, "torch", "is no number"),
        ({"fraction": [0, 2]}, 0.1, "two numbers from 0 to 1"),
    ],
)
def test_what_is_no_range_is_refused_with_the_parameter(content, default, words):
    with pytest.raises(InputError, match=f"kd: temperature.*{words}"):
        read(content, default)


def test_a_default_above_the_number_of_classes_is_lowered_and_a_written_one_refused():
    content = {"low": 2, "high": 16, "whole": True, "at_most": "classes"}
    assert read(content, 7, classes=5).default == 5
    with pytest.raises(InputError, match="its default 7 lies outside 2 to 5"):
        read_range("ldrld: depth", content, 7, 5, written=True)
