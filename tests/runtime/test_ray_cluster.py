from __future__ import annotations

import socket
import sys

import pytest

from stillroom.errors import InputError
from stillroom.runtime.ray_cluster import connect_to_ray


def test_ray_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"ray=local: .*stillroom\[ray\]"):
        connect_to_ray("local", 2)


def test_a_cluster_that_is_not_there_is_one_error(monkeypatch):
    ray = pytest.importorskip("ray")

    def init(**_):  # not Ray's own: it would find the cluster of a test that runs at the same time
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(InputError, match=r"^ray=auto: cannot be reached \(ConnectionError: Could not find"):
        connect_to_ray("auto", 2)


def test_an_address_where_nobody_listens_is_refused_without_asking_ray(monkeypatch):
    ray = pytest.importorskip("ray")
    asked = []
    monkeypatch.setattr(ray, "init", lambda **given: asked.append(given))
    with socket.socket() as nobody:  # bound and not listening: the port is free of others
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        for spelled in (address, f"ray://{address}"):
            with pytest.raises(InputError, match=rf"^ray={spelled}: cannot be reached .*; is a cluster running there"):
                connect_to_ray(spelled, 2)
        assert not asked
        nobody.listen()
        connect_to_ray(address, 2)
    assert asked[0]["address"] == address
