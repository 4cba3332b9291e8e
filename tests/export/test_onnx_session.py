from __future__ import annotations

import sys

import pytest

from stillroom import extras
from stillroom.errors import InputError
from stillroom.export import export, onnx_session, pipeline
from tests.export.conftest import silent


def test_without_the_extra_one_line_says_so_before_any_work(made, monkeypatch, tmp_path):
    run, _ = made("resnet8")
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "onnxruntime" else object())
    monkeypatch.setattr(pipeline, "read_source_run", lambda *_: pytest.fail("it began"))
    with pytest.raises(InputError, match=r"needs onnxruntime: pip install 'stillroom\[export\]', or give onnx=False"):
        export(run, tmp_path / "out", say=silent)
    assert not (tmp_path / "out").exists()


def test_without_onnx_no_package_of_it_is_needed(make_run, tmp_path, monkeypatch):
    for name in onnx_session.NEEDED:
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    result = export(make_run("resnet8"), tmp_path / "out", onnx=False, latency=False, say=silent)
    assert list(result.scores) == ["PyTorch"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "onnx" not in card.lower()
