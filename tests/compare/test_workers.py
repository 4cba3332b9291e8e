from __future__ import annotations

import socket
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


def test_an_address_where_nobody_listens_is_refused_without_asking_ray(monkeypatch):
    ray = pytest.importorskip("ray")
    asked = []
    monkeypatch.setattr(ray, "init", lambda **given: asked.append(given))
    with socket.socket() as nobody:  # bound and not listening: the port is free of others
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        for spelled in (address, f"ray://{address}"):
            with pytest.raises(InputError, match=rf"^ray={spelled}: cannot be reached .*; is a cluster running there"):
                Cluster(spelled, 2, 1)
        assert not asked
        nobody.listen()
        Cluster(address, 2, 1)
    assert asked[0]["address"] == address


def test_relative_paths_mean_on_a_cluster_what_they_meant_where_they_were_given(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert in_folder(str(tmp_path), Path.cwd) == tmp_path
    assert in_folder(str(tmp_path / "not here"), Path.cwd) == tmp_path
