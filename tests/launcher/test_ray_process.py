from __future__ import annotations

import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stillroom.config import make_recipe
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.launcher import ray_process
from stillroom.launcher.ray_process import Work
from stillroom.runtime.reporters import Silent
from stillroom.trust import NOTHING


@pytest.fixture
def work(tmp_path):
    """What a process of a run in a folder gets, without a cluster."""
    recipe = make_recipe(
        "train", {"model": "resnet8", "data": "glyphs100", "runs": str(tmp_path), "name": "run", "launcher": "ray"}
    )
    (tmp_path / "marker").touch()
    return Work(print, recipe, NOTHING, str(tmp_path), ["stillroom"], str(tmp_path / "marker"), 1, None)


def test_a_process_works_in_the_folder_of_the_driver(work, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "argv", sys.argv)
    ray_process.enter(work)
    assert Path.cwd() == tmp_path
    assert sys.argv == ["stillroom"]


def test_a_machine_that_does_not_see_the_disk_is_named(work, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setattr(ray_process, "SECONDS_TO_APPEAR", 0)
    (tmp_path / "marker").unlink()
    with pytest.raises(
        InputError, match=rf"^runs=.*{socket.gethostname()} does not see the files .*all machines share"
    ):
        ray_process.enter(work)
    with pytest.raises(InputError, match=rf"/missing is missing on {socket.gethostname()} .*all machines share"):
        ray_process.enter(replace(work, folder=str(tmp_path / "missing")))


def test_a_restarted_process_waits_until_the_earlier_one_has_released_the_run(work, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_process, "SECONDS_TO_RELEASE", 1)
    (tmp_path / "run").mkdir()
    with RunFolder(tmp_path / "run").held():
        ray_process.take_over(work, 1, Silent())  # at the first start the run itself says that the folder is in use
        with pytest.raises(ConnectionError, match="is in use"):
            ray_process.take_over(work, 2, Silent())
    ray_process.take_over(work, 2, Silent())
