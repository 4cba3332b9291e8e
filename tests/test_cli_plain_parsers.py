from __future__ import annotations

import pytest

from stillroom import cli_plain_parsers as parsers
from stillroom.cli_parsers import parse_arguments
from stillroom.errors import InputError


@pytest.mark.parametrize(
    ("parser", "words", "values"),
    [
        (parsers.demo_parser, ["--quick"], {"quick": True, "seed": 0, "task": "classification"}),
        (parsers.report_parser, ["a", "b", "--views", "false"], {"runs": ["a", "b"], "views": "false"}),
        (parsers.predict_parser, ["m", "x.png", "--top", "2"], {"model": "m", "images": ["x.png"], "top": 2}),
        (parsers.pack_parser, ["src", "dest", "--check"], {"folders": ["src", "dest"], "check": True}),
        (parsers.list_parser, ["methods", "kd"], {"what": "methods", "name": "kd"}),
    ],
)
def test_words_become_values_and_what_is_not_said_has_its_default(parser, words, values):
    asked = parse_arguments(parser(), parser.__name__, words)
    assert asked.values.items() >= values.items()
    assert asked.trust is False


def test_trust_is_no_value():
    asked = parse_arguments(parsers.export_parser(), "export", ["runs/a", "--trust"])
    assert asked.trust
    assert "trust" not in asked.values


def test_a_missing_word_is_refused():
    with pytest.raises(InputError, match="required: MODEL, IMAGES"):
        parse_arguments(parsers.predict_parser(), "predict", [])
