from __future__ import annotations

import re

import pytest

from stillroom.cli import main
from stillroom.errors import InputError
from stillroom.loggers.logger_names import KNOWN, check_loggers, make_loggers
from stillroom.trust import NOTHING, UntrustedError, given
from tests.conftest import colour_folder
from tests.loggers.runs import Recording

OWN = "tests.loggers.runs.Recording"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["tensorbord"], "log_to=tensorbord: there is no logger of that name; did you mean tensorboard"),
        (["comet"], "there is no logger of that name; give tensorboard, wandb, mlflow, or package.module.Class"),
        (["wandb", "wandb"], "log_to=wandb: it is given twice"),
        (["tests.loggers.runs.Nothing"], "log_to=tests.loggers.runs.Nothing: tests.loggers.runs has no function"),
        (["no_such_module.Logger"], "log_to=no_such_module.Logger: the module of"),
    ],
)
def test_a_name_that_cannot_work_is_refused(names, says):
    with pytest.raises(InputError, match=re.escape(says)):
        check_loggers(names, given([names]))


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("stillroom.extras.find_spec", lambda _name: None)
    for name in KNOWN:
        with pytest.raises(InputError, match=rf"log_to={name} needs .*pip install 'stillroom\[{name}\]'"):
            check_loggers([name], NOTHING)


def test_an_object_without_a_method_is_refused_before_training():
    name = "tests.loggers.runs.Whole"
    with pytest.raises(InputError, match=r"has no method step; make it a subclass of stillroom\.loggers\.Logger"):
        make_loggers([name], given([[name]]))
    with pytest.raises(InputError, match="called without arguments"):
        make_loggers(["tests.loggers.runs.Killing"], given([["tests.loggers.runs.Killing"]]))


def test_a_class_that_only_a_file_names_is_imported_only_with_trust(tmp_path, capsys):
    with pytest.raises(UntrustedError, match=f"log_to={OWN}"):
        check_loggers([OWN], NOTHING)
    assert isinstance(make_loggers([OWN], given([[OWN]]))[OWN], Recording)

    (tmp_path / "photos").mkdir()
    photos = colour_folder(tmp_path / "photos", count=6, side=8)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"log_to: [{OWN}]\nepochs: 1\nbatch_size: 8\naccelerator: cpu\n")
    words = ["train", "--model", "resnet8", "--data", str(photos), "--runs", str(tmp_path), "--config", str(recipe)]
    assert main(words) == 2
    assert f"{recipe} names" in capsys.readouterr().err
    Recording.calls.clear()
    assert main([*words, "--log_to", OWN]) == 0, "a typed name is the user's own"
    assert ("finish", 1) in Recording.calls
    assert main([*words, "--name", "trusted", "--trust"]) == 0


def test_a_comparison_checks_the_names_before_it_trains(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    photos = colour_folder(tmp_path / "photos", count=6, side=8)
    words = ["compare", "--teachers", "resnet8", "--students", "resnet8", "--methods", "kd", "--data", str(photos)]
    assert main([*words, "--runs", str(tmp_path), "--name", "c", "--log_to", "tensorbord"]) == 2
    assert "did you mean tensorboard" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
