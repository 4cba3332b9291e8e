"""A comparison on Ray that is killed, by parts and as a whole."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from stillroom.cli import main
from stillroom.engine.run_folder import RunFolder
from tests.compare.test_compare import (
    arguments,
    assert_equal_to_cells_that_nothing_disturbed,
    begin,
    epochs_of_students,
    photos,  # noqa: F401
    wait_until,
)

EPOCHS = 24  # so many that a run is not at its end when it is killed
MORE = ("--methods", "kd", "--seeds", "1", "--ray", "local", "--epochs", str(EPOCHS))


def busy_in(parent, folder):
    """The processes below another that print to a file in a folder: Ray's workers at their cells."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        try:
            open_files = process.open_files()
        except psutil.Error:
            continue
        if any(file.path.startswith(str(folder / "logs")) for file in open_files):
            found.append(process)
    return found


def test_after_a_worker_and_then_ray_were_killed_the_same_command_ends_as_if_nothing_had_happened(
    photos,  # noqa: F811
    tmp_path,
    monkeypatch,
    capfd,
):
    pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    killed = tmp_path / "killed" / "c"
    process = begin(photos, killed.parent, *MORE)
    teacher = killed / "medium-s0" / "metrics.jsonl"
    wait_until(teacher.exists)
    for worker in busy_in(process.pid, killed):
        worker.send_signal(signal.SIGKILL)
    wait_until(lambda: epochs_of_students(killed) >= 1)
    left = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    os.kill(process.pid, signal.SIGKILL)
    _, said = process.communicate()
    assert "medium-s0: its process died" in said
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in left))
    assert not RunFolder(killed / "small-from-medium-kd-s0").finished
    assert main(arguments(photos, killed.parent, *MORE)) == 0

    assert_equal_to_cells_that_nothing_disturbed(photos, tmp_path, killed, monkeypatch, epochs=EPOCHS)
