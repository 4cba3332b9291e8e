from __future__ import annotations

import pytest
from torch import nn

from stillroom.config import make_recipe
from stillroom.errors import InputError
from stillroom.prepare.name_checks import check_names, check_run, check_source, is_path, require_weights
from stillroom.prepare.python_inputs import Inputs


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("resnet20", False), ("runs/teacher", True), (".", True), ("timm:hf-hub:someone/model", False),
        ("package.module:function", False),
    ],
)  # fmt: skip
def test_names_and_paths_are_told_apart(name, path):
    assert is_path(name) is path


@pytest.mark.parametrize(
    ("model", "checkpoint", "pretrained", "match"),
    [
        ("resnet2O", None, False, r"teacher=resnet2O: .*did you mean .*resnet20"),
        ("resnet20", "weights.pt", False, "teacher_checkpoint=weights.pt: there is no such file"),
        ("resnet20", None, True, "there are no published weights for teacher=resnet20; give teacher_checkpoint=FILE"),
        (nn.Flatten(), None, True, "leave teacher_pretrained out"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(tmp_path, monkeypatch, model, checkpoint, pretrained, match):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=match):
        check_source("teacher", model, checkpoint, pretrained)


def test_a_teacher_requires_weights():
    with pytest.raises(InputError, match="teacher=resnet20 would have random weights"):
        require_weights("teacher", "resnet20", None, False)
    require_weights("teacher", nn.Flatten(), None, False)
    require_weights("teacher", "timm:resnet18", None, True)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"this folder is not a run, it has no config\.yaml"):
        check_run("run=", tmp_path)
    with pytest.raises(InputError, match="there is no such run folder"):
        check_run("run=", tmp_path / "nothing")


def test_teacher_and_student_must_be_two_modules():
    module = nn.Flatten()
    recipe = make_recipe("distill", {"teacher": "t", "student": "s", "data": "tiny", "epochs": 1})
    with pytest.raises(InputError, match="teacher and student are the same module"):
        check_names(recipe, Inputs(teacher=module, student=module))


def test_the_weights_of_a_run_replace_those_that_a_package_brings(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("model: efficientnet-lite0\n")
    for name in ("summary.json", "inputs.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "student.safetensors").touch()
    monkeypatch.setattr("stillroom.extras.find_spec", lambda _: None)
    given = {"student": "resnet8", "data": "tiny", "epochs": 1}
    check_names(make_recipe("distill", given | {"teacher": str(tmp_path)}), Inputs())
    with pytest.raises(InputError, match=r"pip install 'stillroom\[efficientnet-lite0\]'"):
        check_names(make_recipe("distill", given | {"teacher": "efficientnet-lite0"}), Inputs())
