from __future__ import annotations

from pathlib import Path

from stillroom.compare.workers import in_folder


def test_relative_paths_mean_on_a_cluster_what_they_meant_where_they_were_given(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert in_folder(str(tmp_path), Path.cwd) == tmp_path
    assert in_folder(str(tmp_path / "not here"), Path.cwd) == tmp_path
