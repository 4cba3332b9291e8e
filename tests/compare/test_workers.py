from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stillroom.compare.workers import Cluster, in_folder
from stillroom.errors import InputError


def test_ray_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"ray=local: .*stillroom\[ray\]"):
        Cluster("local", 2, 1)


def test_a_cluster_that_is_not_there_is_one_error():
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=r"^ray=auto: cannot be reached"):
        Cluster("auto", 2, 1)


def test_relative_paths_mean_on_a_cluster_what_they_meant_where_they_were_given(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert in_folder(str(tmp_path), Path.cwd) == tmp_path
    assert in_folder(str(tmp_path / "not here"), Path.cwd) == tmp_path
