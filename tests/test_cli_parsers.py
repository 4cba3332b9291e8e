"""The settings of each command: what the command line fills in is what Python fills in."""

from __future__ import annotations

import pytest

from stillroom.cli_parsers import distill_parser, train_parser
from stillroom.config import make_recipe

TRAIN = {"model": "resnet8", "data": "glyphs100"}
DISTILL = {"teacher": "runs/teacher", "student": "resnet8", "method": "kd", "data": "glyphs100"}


@pytest.mark.parametrize(
    ("command", "parser", "settings"), [("train", train_parser, TRAIN), ("distill", distill_parser, DISTILL)]
)
def test_a_setting_that_is_left_out_is_the_same_as_in_python(command, parser, settings):
    chosen = parser().parse_args([f"--{name}={value}" for name, value in settings.items()]).as_dict()
    filled = {name: value for name, value in chosen.items() if name not in ("config", "published", "trust")}
    assert make_recipe(command, filled) == make_recipe(command, dict(settings))
    assert chosen["trust"] is False, "nothing is trusted unasked"
