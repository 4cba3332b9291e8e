from __future__ import annotations

import json
import shutil

from stillroom.engine.run_folder import RunFolder
from stillroom.export import export
from tests.export.conftest import silent


def test_a_config_records_what_is_needed_to_use_the_student_and_no_paths(made):
    run, result = made("resnet8")
    config, known = json.loads((result.folder / "config.json").read_text()), run.config()
    assert (config["library"], config["architecture"], config["classes"]) == ("stillroom", "resnet8", known["classes"])
    assert (config["mean"], config["std"]) == (known["mean"], known["std"])
    assert config["input"] == {"name": "images", "channels": 3, "height": 32, "width": 32, "range": [0, 1]}
    told = config["training"]
    assert (told["method"], told["data"], told["started_from"]) == ("kd", "colours", "random weights")
    assert told["teacher"] == "stillroom.models.demo_nets:medium"
    assert (told["epochs"], told["batch_size"]) == (1, 16)
    assert not {"runs", "name", "bank"} & told.keys()


def test_a_teacher_whose_folder_is_gone_keeps_its_name(made, tmp_path):
    run, _ = made("resnet8")
    shutil.copytree(run.path, tmp_path / "run")
    result = export(RunFolder(tmp_path / "run"), tmp_path / "out", onnx=False, latency=False, say=silent)
    config = json.loads((result.folder / "config.json").read_text())
    assert config["training"]["teacher"] == "stillroom.models.demo_nets:medium"  # where the run found it
    text = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(text.replace(run.config()["teacher"], "/gone/big"))
    export(RunFolder(tmp_path / "run"), tmp_path / "out", onnx=False, latency=False, say=silent)
    assert json.loads((result.folder / "config.json").read_text())["training"]["teacher"] == "big"
