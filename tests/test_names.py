"""Names of classes and folders that look like markup, colours, formulas or no text at all."""

import os
import sys

import pytest
import torch
from PIL import Image

from stillroom import train
from stillroom.cli import main
from stillroom.errors import InputError

MODEL = "stillroom.models.demo_nets:small"
NAMES = (
    "[red]",
    "red",
    "[/]",
    "a\nb",
    "<b>&amp;",
    "{{ x }}",
    "$x^",
    "a_{b",
    "|`*",
    "\\",
    "%s {0}",
    ":smile:",
    "'\"",
    "日本 é",
)
NO_TEXT = os.fsdecode(b"caf\xe9")


def write_photos(folder, names, count=6):
    generator = torch.Generator().manual_seed(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            values = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8, generator=generator)
            Image.fromarray(values.numpy()).save(folder / name / f"{number}.png")
    return folder


def common(data, runs):
    return ["--data", str(data), "--epochs", "1", "--batch_size", "32", "--runs", str(runs), "--precision", "32"]


def status(capsys, *arguments):
    """Exit status and what was said on stderr; a traceback would fail the test by itself."""
    found = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return found, said.err, said.out


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A teacher and a student on classes with odd names."""
    folder = tmp_path_factory.mktemp("odd [bold]$x names")
    data = write_photos(folder / "[red] $x data", NAMES)
    runs = folder / "[runs]"
    assert main(["train", "--model", MODEL, "--name", "t", *common(data, runs)]) == 0
    student = ["--teacher", str(runs / "t"), "--student", MODEL, "--method", "kd", "--name", "s"]
    assert main(["distill", *student, *common(data, runs)]) == 0
    return runs


def test_odd_class_names_come_through_page_tables_and_export(runs, tmp_path, capsys):
    for kind in ("md", "tex", "csv"):
        page = tmp_path / "page.html"
        arguments = ["report", runs, "--table", tmp_path / f"table.{kind}", "--out", page]
        assert status(capsys, *arguments, *(["--views", "false"] if kind != "md" else []))[0] == 0
        if kind == "md":
            text = page.read_text(encoding="utf-8")
    assert "<b>&amp;" not in text.replace("<b>&amp;amp;", "")
    assert "日本 é" in text
    assert status(capsys, "export", runs / "s", "--out", tmp_path / "x", "--no_latency", "--no_onnx")[0] == 0
    assert "[red]" in (tmp_path / "x" / "README.md").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no such names")
@pytest.mark.parametrize("what", ["data", "runs", "teacher"])
def test_paths_that_are_no_text_work_or_give_one_line(runs, tmp_path, capsys, what):
    odd = tmp_path / NO_TEXT
    data = write_photos(odd if what == "data" else tmp_path / "data", ("ant", "bee"))
    places = common(data, odd if what == "runs" else tmp_path / "runs")
    if what == "teacher":
        odd.symlink_to(runs / "t")
        found, said, _ = status(capsys, "distill", "--teacher", odd, "--student", MODEL, *places)
    else:
        found, said, _ = status(capsys, "train", "--model", MODEL, *places)
    assert found == 2
    assert said.count("\n") == 1
    assert f"{what}=" in said
    assert "not UTF-8 text" in said
    assert said.encode()  # can be printed


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no such names")
def test_runs_below_a_folder_that_is_no_text_are_reported_measured_and_exported(runs, tmp_path, capsys, monkeypatch):
    odd = tmp_path / NO_TEXT
    odd.mkdir()
    monkeypatch.chdir(odd)
    data = write_photos(odd / "data", ("ant", "bee"))
    assert main(["train", "--model", MODEL, "--name", "t", *common("data", "runs")]) == 0
    assert status(capsys, "evaluate", "--model", "runs/t", "--data", "data")[0] == 0
    assert status(capsys, "report", "runs", "--views", "false")[0] == 0
    assert status(capsys, "export", "runs/t", "--no_onnx", "--no_latency")[0] == 0
    for command in (["report", odd / "runs"], ["export", odd / "runs" / "t"]):
        found, said, _ = status(capsys, *command)
        assert found == 2
        assert r"caf\udce9" in said
        assert said.count("\n") == 1
    assert (data / "ant").is_dir()
    with pytest.raises(InputError, match=r"runs=.*not UTF-8 text"):
        train(model=MODEL, data="data", runs=str(odd))
