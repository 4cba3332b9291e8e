from __future__ import annotations

import json
import shutil

import pytest
from torch import nn

import stillroom
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.export import export, load
from stillroom.resolve_model import fingerprint
from stillroom.trust import Trust
from tests.conftest import tiny_model
from tests.export.conftest import FAST, silent


def test_unfinished_and_damaged_runs_are_refused(make_run, tmp_path):
    for name, damage, message in (
        ("unfinished", lambda path: (path / "summary.json").unlink(), "not finished"),
        ("damaged", lambda path: (path / "student.safetensors").write_bytes(b"\x08" * 99), "student.safetensors"),
        ("no run", lambda path: (path / "config.yaml").unlink(), "this folder is not a run"),
    ):
        path = tmp_path / name
        shutil.copytree(make_run("resnet8").path, path)
        damage(path)
        with pytest.raises(InputError, match=message):
            export(RunFolder(path), onnx=False, latency=False, say=silent)
        assert not (path / "export").exists()


def test_a_module_that_was_handed_in_is_handed_in_again(tiny_data, tmp_path):
    settings = {key: value for key, value in FAST.items() if key != "image_size"}
    _, run = stillroom.train(model=tiny_model(), data=tiny_data, runs=str(tmp_path), **settings)
    with pytest.raises(InputError, match=r"handed in as a module .*student=MODULE"):
        export(run, say=silent)
    result = export(run, student=tiny_model(), data=tiny_data, latency=False, say=silent)
    assert result.folder == run.path / "export"
    assert result.scores["PyTorch"].top1 == pytest.approx(run.summary()["last"]["val_top1"])
    with pytest.raises(InputError, match=r"load\(folder, model=MODULE\)"):
        load(result.folder)
    config = json.loads((result.folder / "config.json").read_text())
    assert fingerprint(load(result.folder, tiny_model())[0]) == config["weights"]
    with pytest.raises(InputError, match="another architecture"):
        export(run, student=nn.Linear(2, 2), data=tiny_data, say=silent)


def test_a_function_that_is_gone_is_named(make_run, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(make_run("stillroom.models.demo_nets:small").path, path)
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace("stillroom.models.demo_nets:small", "gone.away:build"))
    with pytest.raises(InputError, match=r"gone\.away:build cannot be imported"):
        export(RunFolder(path, trust=Trust(files=True)), say=silent)
