from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file

from stillroom.errors import InputError
from stillroom.export import load
from stillroom.resolve_model import fingerprint
from stillroom.restore import dataset_of, student_of
from tests.export.conftest import STUDENTS


@pytest.mark.parametrize("student", STUDENTS)
def test_weights_come_back_as_the_run_left_them(made, student):
    run, result = made(student)
    model, config = load(result.folder)
    assert fingerprint(model) == fingerprint(student_of(run, dataset_of(run)))
    assert not model.training
    assert config["classes"] == run.config()["classes"]
    assert config["parameters"] == sum(p.numel() for p in model.parameters())


def test_the_student_comes_alone(made):
    tensors = load(made("resnet8")[1].folder)[0].state_dict()
    assert load_file(made("resnet8")[1].folder / "model.safetensors").keys() == tensors.keys()


def test_a_folder_that_holds_no_export_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no export: give the folder that stillroom export wrote"):
        load(tmp_path)


def test_a_config_with_a_value_of_another_kind_is_refused(made, tmp_path):
    shutil.copytree(made("resnet8")[1].folder, tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": 4}))
    with pytest.raises(InputError, match=r"config\.json cannot be read \(classes cannot be 4\)"):
        load(tmp_path / "out")
