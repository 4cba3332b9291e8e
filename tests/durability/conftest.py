from __future__ import annotations

import os

import pytest

from tests.durability.lives import Lives
from tests.durability.whole import Undisturbed


@pytest.fixture(scope="package")
def lives(tmp_path_factory):
    if os.name != "posix":
        pytest.skip("processes are forked and killed here")
    made = Lives(tmp_path_factory.mktemp("lives") / "errors.txt")
    yield made
    made.close()


@pytest.fixture(scope="package")
def undisturbed(lives, tmp_path_factory):
    return {method: Undisturbed(lives, tmp_path_factory.mktemp(method), method) for method in ("logits", "features")}
