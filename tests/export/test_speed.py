from __future__ import annotations

import json
import shutil

from stillroom.engine.run_folder import RunFolder
from stillroom.export import export, latency


def test_student_and_teacher_are_measured_in_every_runtime(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "SECONDS", 0.1)
    said = []
    result = export(make_run("resnet8"), tmp_path / "out", say=said.append)
    runtimes = ("PyTorch", "onnxruntime", "onnxruntime int8")
    expected = {(who, runtime, batch) for who in ("student", "teacher") for runtime in runtimes for batch in (1, 64)}
    assert {(row.model, row.runtime, row.batch) for row in result.timings} == expected
    assert all(0 < row.low_ms <= row.median_ms <= row.high_ms and row.calls >= 7 for row in result.timings)
    record = json.loads((tmp_path / "out" / "latency.json").read_text())
    assert len(record["results"]) == 12
    assert record["threads"] == 1
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.count("| teacher | ") == 6
    assert "the student takes" in card


def test_a_teacher_that_is_gone_is_left_out_with_a_word(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "SECONDS", 0.1)
    path = tmp_path / "elsewhere" / "run"
    shutil.copytree(make_run("resnet8").path, path)
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace(str(make_run("teacher").path), "/gone/teacher"))
    said = []
    result = export(RunFolder(path), onnx=False, say=said.append)
    assert {row.model for row in result.timings} == {"student"}
    assert any("teacher cannot be built again" in line for line in said)
    assert "The teacher cannot be built again" in (path / "export" / "README.md").read_text()


def test_the_model_of_a_training_run_is_measured_alone(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "SECONDS", 0.1)
    result = export(make_run("teacher"), tmp_path / "out", onnx=False, say=lambda _: None)
    assert {(row.model, row.runtime) for row in result.timings} == {("student", "PyTorch")}
    assert "trained on labels" in (tmp_path / "out" / "README.md").read_text()
