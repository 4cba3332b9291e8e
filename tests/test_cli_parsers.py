"""The arguments of each command: what the command line fills in is what Python fills in."""

from __future__ import annotations

import pytest

from stillroom.cli import COMMANDS
from stillroom.cli_parsers import GROUPS, defaults_of, kinds_of, parse_arguments, settings_of_command
from stillroom.config import make_recipe
from stillroom.errors import InputError

TRAIN = {"model": "resnet8", "data": "glyphs100"}
DISTILL = {"teacher": "runs/teacher", "student": "resnet8", "method": "kd", "data": "glyphs100"}


def parsed(command, *words):
    return parse_arguments(COMMANDS[command].parser(), command, words)


@pytest.mark.parametrize(("command", "settings"), [("train", TRAIN), ("distill", DISTILL)])
def test_a_setting_that_is_left_out_is_the_same_as_in_python(command, settings):
    asked = parsed(command, *(f"--{name}={value}" for name, value in settings.items()))
    assert make_recipe(command, asked.values) == make_recipe(command, dict(settings))
    assert make_recipe(command, defaults_of(command) | asked.values) == make_recipe(command, dict(settings))
    assert asked.trust is False, "nothing is trusted unasked"


@pytest.mark.parametrize("command", GROUPS)
def test_the_help_has_every_setting_with_its_meaning_and_default(command):
    text = " ".join(COMMANDS[command].parser().format_help().split())
    for name, known in settings_of_command(command).items():
        assert f"--{name} " in text
        assert known.help.replace("  ", " ") in text
    assert "(default: 64)" in text or command == "evaluate"


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--lr", "1e-2"], "lr", 0.01),
        (["--lr", "null"], "lr", None),
        (["--lr=3"], "lr", 3.0),
        (["--milestones", "[3, 4]"], "milestones", [3, 4]),
        (["--mean", "[0.5,1e-1,0]"], "mean", [0.5, 0.1, 0.0]),
        (["--flip", "False"], "flip", False),
        (["--precision", "32"], "precision", "32"),
        (["--name", "2024"], "name", "2024"),
        (["--method", "0.1*ce + 0.9*kd"], "method", "0.1*ce + 0.9*kd"),
        (["--log_to", "tensorboard, my.Logger"], "log_to", ["tensorboard", "my.Logger"]),
        (["--log_to", "[tensorboard]"], "log_to", ["tensorboard"]),
    ],
)
def test_a_text_becomes_a_value_of_the_settings_type(words, name, value):
    found = parsed("distill", *words).values[name]
    assert (found, type(found)) == (value, type(value))


def test_an_axis_of_a_comparison_is_a_list_a_text_or_names_with_values():
    asked = parsed("compare", "--methods", '{deep: "ldrld(depth=9)"}', "--students", "a,b", "--seeds", "2")
    assert asked.values == {"methods": {"deep": "ldrld(depth=9)"}, "students": "a,b", "seeds": 2}
    assert parsed("compare", "--seeds", "1,5").values == {"seeds": "1,5"}
    assert "seed" not in kinds_of("compare"), "a comparison has seeds"


def test_a_flag_wins_over_a_file_in_any_order_and_a_later_file_over_an_earlier_one(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("lr: 1e-2\nepochs: 7\nbatch_size: 8\n")
    second.write_text("epochs: 9\n")
    asked = parsed("train", "--batch_size", "4", "--config", str(first), "--config", str(second), "--name", "x")
    assert asked.values == {"lr": 0.01, "epochs": 9, "batch_size": 4, "name": "x"}
    assert asked.files == {"lr": str(first), "epochs": str(second)}


def test_a_name_in_a_file_that_no_setting_has_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("epocs: 7\n")
    with pytest.raises(InputError, match="there is no setting 'epocs'; did you mean epochs"):
        parsed("train", "--config", str(tmp_path / "a.yaml"))
