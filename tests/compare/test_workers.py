from __future__ import annotations

import sys

import pytest

from stillroom.compare.workers import Cluster
from stillroom.errors import InputError


def test_ray_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"ray=local: .*stillroom\[ray\]"):
        Cluster("local", 2, 1)


def test_a_cluster_that_is_not_there_is_one_error():
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=r"^ray=auto: cannot be reached"):
        Cluster("auto", 2, 1)
