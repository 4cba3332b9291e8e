"""A run folder from elsewhere may hold any value; every command says so in one line."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

import stillroom
from stillroom.cli import main
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.models.demo_nets import small
from stillroom.models.reused_classifier import from_plan
from tests.conftest import colour_folder

HUGE = 10**400
WRONG = {
    "config.yaml": [("seed", [1]), ("data", {"a": 1}), ("batch_size", 0), ("mean", "x"), ("precision", "64"),
                    ("image_size", True)],
    "inputs.json": [("image_shape", None), ("image_shape", [3, 8]), ("classes", 5), ("val_images", HUGE),
                    ("teacher_weights", {}), ("reused_head", "x"), ("identity", [1])],
    "summary.json": [("parameters", HUGE), ("seconds", "x"), ("seconds", float("nan")), ("bank_seconds", "x"),
                     ("last", 1), ("best", {"epoch": -1}), ("teacher", {"top1": "x"}), ("exported", ["last"]),
                     ("peak_memory_bytes", "x")],
    "metrics.jsonl": [("seconds", "x"), ("images_per_second", float("inf")), ("val_top1", HUGE), ("terms", [1]),
                      ("loss", "x"), ("epoch", None), ("agreement", {})],
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    (folder / "photos").mkdir()
    colour_folder(folder / "photos", count=6, side=8)
    stillroom.train(
        model="stillroom.models.demo_nets:small", data=folder / "photos", runs=str(folder / "runs"), name="t", epochs=1,
        batch_size=4, accelerator="cpu", precision="32", lr=0.01,
    )  # fmt: skip
    return folder


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made / "runs", tmp_path / "runs")
    return RunFolder(tmp_path / "runs" / "t")


def put(run: RunFolder, file: str, name: str, value: object) -> None:
    path = run.path / file
    content = yaml.safe_load(path.read_text()) if file.endswith("yaml") else json.loads(path.read_text())
    dump = yaml.safe_dump if file.endswith("yaml") else json.dumps
    path.write_text(dump({**content, name: value}) + "\n")


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [(file, *case) for file, cases in WRONG.items() for case in cases],
    ids=lambda value: str(value)[:20],
)
def test_a_value_of_another_kind_is_named_with_its_file(file, name, value, run):
    assert run.config() is not None
    assert run.summary() is not None
    assert run.epochs()
    put(run, file, name, value)
    with pytest.raises(InputError, match=rf"{file} cannot be read \(.*{name}") as caught:
        (run.config(), run.summary(), run.epochs())
    assert len(str(caught.value)) < 500


def test_a_name_that_is_missing_is_said_with_its_folder(run):
    path = run.path / "inputs.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "classes"}))
    with pytest.raises(InputError, match="it has no classes"):
        run.config()["classes"]


def test_numbers_of_a_run_that_diverged_are_read(run):
    put(run, "metrics.jsonl", "loss", float("nan"))
    put(run, "metrics.jsonl", "val_loss", float("inf"))
    assert run.epochs()[0]["loss"] != run.epochs()[0]["loss"]


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [("inputs.json", "image_shape", None), ("config.yaml", "mean", [1, "x"]), ("summary.json", "seconds", "x"),
     ("metrics.jsonl", "seconds", HUGE), ("environment.json", "versions", "x"), ("environment.json", "command", 5)],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_every_command_ends_in_one_line(file, name, value, run, made, capsys):
    put(run, file, name, value)
    data = ["--data", str(made / "photos")]
    for command in (
        ["report", str(run.path), "--views", "false"],
        ["evaluate", "--model", str(run.path), *data],
        ["export", str(run.path), "--no_onnx", "--no_latency"],
    ):
        status = main(command)  # no traceback
        problem = capsys.readouterr().err.splitlines()[-1:]
        assert status == 0 or problem[0].startswith("stillroom: error: ")


@pytest.mark.parametrize(
    "changes", [{"teacher_channels": 2**40}, {"factor": 0}, {"final_map": 5}, {"size": "x"}, {"student_channels": None}]
)
def test_a_plan_of_a_teachers_head_that_fits_none_is_refused(changes):
    plan = {"final_map": ["layer3", "output"], "student_channels": 32, "teacher_channels": 64, "bias": True,
            "factor": 2, "size": None}  # fmt: skip
    with pytest.raises(InputError, match="reused_head"):
        from_plan(small(3), plan | changes, 3)
