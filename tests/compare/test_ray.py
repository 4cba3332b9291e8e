"""A comparison on Ray that is killed, by parts and as a whole, and one that loses a machine."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from safetensors.torch import load_file

from stillroom.cli import main
from stillroom.compare.grid import make_grid
from stillroom.compare.options import CompareOptions
from stillroom.compare.run_cell import train_cell
from stillroom.engine.run_folder import RunFolder
from tests.compare.test_compare import arguments, begin, epochs_of_students, photos, wait_until  # noqa: F401
from tests.durability.whole import differences
from tests.ray_nodes import lose, two_nodes

EPOCHS = 40  # so many that a run is not at its end when it is killed
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


def test_a_comparison_on_two_nodes_that_loses_one_ends_complete_and_as_if_nothing_had_happened(
    photos,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    pytest.importorskip("ray")
    folder, epochs = tmp_path / "lost" / "c", 24
    more = ("--methods", "ce,kd", "--seeds", "1", "--teacher_epochs", "2", "--epochs", str(epochs))
    with two_nodes() as (cluster, second):
        process = begin(photos, folder.parent, *more, "--ray", cluster.address)
        runs = [folder / f"small-from-medium-{method}-s0" / "metrics.jsonl" for method in ("ce", "kd")]
        wait_until(lambda: all(run.exists() for run in runs))  # one on each node
        lose(cluster, second)
        _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "its process died" in said
    assert_equal_to_cells_that_nothing_disturbed(
        photos, tmp_path, folder, monkeypatch, epochs=epochs, teacher_epochs=2, methods="ce,kd"
    )


def assert_equal_to_cells_that_nothing_disturbed(photos, tmp_path, folder, monkeypatch, *, epochs, **more):  # noqa: F811
    options = CompareOptions(
        teachers="stillroom.models.demo_nets:medium", students="stillroom.models.demo_nets:small",
        seeds=1, **{"methods": "kd", **more},
    )  # fmt: skip
    settings = {"epochs": epochs, "batch_size": 8, "accelerator": "cpu", "precision": "32", "data": str(photos)}
    monkeypatch.setenv("LOCAL_RANK", "0")
    grid = make_grid(options, {**settings, "runs": str(tmp_path / "whole"), "name": "c"})
    for cell in grid.cells:
        assert not train_cell(cell, tmp_path / "log.txt", 1, 0).problem
        one, other = (RunFolder(folder / cell.name) for folder in (folder, grid.folder))
        weights, wanted = load_file(one.student), load_file(other.student)
        assert all((weights[key] == wanted[key]).all() for key in wanted), cell.name
        assert not differences(one.epochs(), other.epochs())
