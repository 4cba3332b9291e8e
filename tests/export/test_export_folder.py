from __future__ import annotations

import shutil

import pytest

from stillroom.errors import InputError
from stillroom.export import export, export_folder
from tests.export.conftest import silent


def test_the_same_export_again_renews_the_files_and_drops_what_is_not_asked_for(made, tmp_path):
    run, first = made("resnet8")
    folder = tmp_path / "out"
    shutil.copytree(first.folder, folder)
    (folder / "my notes.txt").write_text("mine")
    result = export(run, folder, onnx=False, latency=False, say=silent)
    assert [file.name for file in result.files] == ["config.json", "model.safetensors", "README.md"]
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "my notes.txt",
    ]  # fmt: skip


def test_files_of_others_are_never_overwritten(made, make_run, tmp_path):
    run, _ = made("resnet8")
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files \(README\.md\); nothing is overwritten"):
        export(run, tmp_path, say=silent)
    with pytest.raises(InputError, match="is a file; give a folder"):
        export(run, tmp_path / "README.md", say=silent)
    with pytest.raises(InputError, match="export of a student with other weights"):
        export(make_run("teacher"), made("resnet8")[1].folder, onnx=False, say=silent)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_full_disk_is_one_line(made, monkeypatch, tmp_path):
    run, _ = made("resnet8")

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_folder.shutil, "copyfile", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        export(run, tmp_path / "out", onnx=False, latency=False, say=silent)
    assert list(tmp_path.iterdir()) == []
