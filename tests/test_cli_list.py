from __future__ import annotations

import re
from pathlib import Path

import pytest

from stillroom.cli import main
from stillroom.methods import PRESETS, WRAPPERS


@pytest.mark.parametrize(
    ("arguments", "there", "not_there"),
    [
        (["models"], ("resnet8x4", "ShuffleV2", "fasterrcnn_resnet18_fpn"), ()),
        (["models", "wide"], ("wrn_40_2", "2,255,156"), ("resnet8x4",)),
        (["methods"], ("ldrld", "dkd", "reviewkd", "standardized(LOSS)", "sdd(LOSS)"), ()),
        (["optimizers"], ("deepkd", "lamb", "lion"), ("adahessian", "fusedlamb")),
        (["optimizers", "lamb"], ("lambw",), ("lion", "sgd")),
        (["data"], ("glyphs100",), ()),
        (["recipes", "--student", "resnet8x4", "--method", "ldrld"], ("77.20", "alpha=10.5", "LDRLD paper"), ("/kd",)),
        (["recipes", "imagenet/resnet34"], ("imagenet/resnet34-resnet18/dkd", "71.70"), ("cifar100",)),
    ],
)
def test_lists_name_what_there_is(arguments, there, not_there, capsys):
    assert main(["list", *arguments]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in there)
    assert not any(name in out for name in not_there)


def test_brackets_in_a_docstring_are_shown(capsys):
    assert main(["list", "methods", "ldrld"]) == 0
    assert "stillroom[numba]" in capsys.readouterr().out


def test_one_method_is_told_in_full(capsys):
    assert main(["list", "methods", "crd"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for word in ("Tian et al., ICLR 2020", "1*ce + 0.8*crd", "negatives", "Default 16384", "embedding", "sample ids",
                 "kept in checkpoints", "docs/methods/crd.md"):  # fmt: skip
        assert word in out
    assert main(["list", "methods", "ft"]) == 0
    assert "30 epochs in which only this loss is trained" in capsys.readouterr().out
    assert ":func:" not in out


@pytest.mark.parametrize("name", [*PRESETS, *WRAPPERS])
def test_every_method_has_a_formula_and_a_page(name, capsys):
    assert main(["list", "methods", name]) == 0
    out = capsys.readouterr().out
    formula = next(line for line in out.splitlines() if "formula" in line).split("│")[2].strip()
    assert len(formula) > 20
    page = re.search(r"docs/methods/\w+\.md", out)
    assert page is not None
    assert (Path(__file__).parents[1] / page[0]).is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["methods", "reviwkd"], "did you mean reviewkd"),
        (["recipes", "--student", "resnet9000"], "no recipes match student=resnet9000"),
        (["models", "gpt"], "no models match name=gpt"),
        (["models", "--method", "kd"], "--method chooses among recipes, not models"),
        (["methods", "kd", "--teacher", "resnet56"], "--teacher chooses among recipes, not methods"),
        (["data", "--dataset", "cifar100"], "--dataset chooses among recipes, not data"),
    ],
)
def test_a_list_of_nothing_says_so(arguments, says, capsys):
    assert main(["list", *arguments]) == 2
    assert says in capsys.readouterr().err
