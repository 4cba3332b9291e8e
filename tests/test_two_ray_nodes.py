"""A comparison and a run on a Ray cluster of two nodes, of which one is lost while they train."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from safetensors.torch import load_file

from stillroom.engine.run_folder import RunFolder
from tests.compare.test_compare import (
    assert_equal_to_cells_that_nothing_disturbed,
    photos,  # noqa: F401
    wait_until,
)
from tests.compare.test_compare import begin as begin_comparison
from tests.conftest import colour_folder
from tests.durability.whole import differences
from tests.ray_nodes import two_nodes

SETTINGS = {
    "model": "stillroom.models.demo_nets:small", "data": "photos", "epochs": 12, "batch_size": 8, "accelerator": "cpu",
    "precision": "32",
}  # fmt: skip
PATIENCE = 600  # seconds; a loaded machine takes minutes for what takes 30 s on a quiet one
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


@pytest.fixture(scope="module")
def nodes():
    """One cluster for both tests: a node that was lost has been replaced when the next test begins."""
    pytest.importorskip("ray")
    with two_nodes() as nodes:
        yield nodes


def test_a_comparison_on_two_nodes_that_loses_one_ends_complete_and_as_if_nothing_had_happened(
    nodes,
    photos,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    folder, epochs = tmp_path / "lost" / "c", 24
    more = ("--methods", "ce,kd", "--seeds", "1", "--teacher_epochs", "2", "--epochs", str(epochs))
    process = begin_comparison(photos, folder.parent, *more, "--ray", nodes.address)
    runs = [folder / f"small-from-medium-{method}-s0" / "metrics.jsonl" for method in ("ce", "kd")]
    wait_until(lambda: all(run.exists() for run in runs))  # one on each node
    nodes.lose_one()
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "its process died" in said
    assert_equal_to_cells_that_nothing_disturbed(
        photos, tmp_path, folder, monkeypatch, epochs=epochs, teacher_epochs=2, methods="ce,kd"
    )


def begin(folder, *before, **settings):
    words = [word for name, value in {**SETTINGS, **settings}.items() for word in (f"--{name}", str(value))]
    return subprocess.Popen(
        [sys.executable, *before, "-m", "stillroom.cli", "train", *words], env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
    )  # fmt: skip


def wait_for_epochs(process, run, count):
    end = time.monotonic() + PATIENCE
    while not run.finished and not (run.path.is_dir() and run.last.exists() and len(run.epochs()) >= count):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)


def left():
    """The processes that train, below this one: the nodes are its children."""
    return [
        name
        for process in psutil.Process().children(recursive=True)
        if "RayTrainWorker" in (name := command_line(process))
    ]


def command_line(process):
    """Empty for a process that has just ended: psutil finds no command line then."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def test_a_run_on_two_nodes_is_stopped_and_loses_a_node_and_ends_as_two_processes_of_torchrun_do(nodes, tmp_path):
    (tmp_path / "photos").mkdir()
    colour_folder(tmp_path / "photos", count=20, side=8)
    run = RunFolder(tmp_path / "runs" / "launched")
    there = {"launcher": "ray", "ray": nodes.address, "name": "launched"}
    process = begin(tmp_path, **there, processes=2)
    wait_for_epochs(process, run, 1)
    assert len(left()) == 2
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "everything is saved in runs/launched" in said
    assert not run.finished
    wait_until(lambda: not left(), seconds=30)

    process = begin(tmp_path, **there, processes=2)
    wait_for_epochs(process, run, len(run.epochs()) + 2)
    nodes.lose_one()
    out, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "all processes were started again (1)" in said
    assert "epoch 12/12" in said
    assert out.splitlines()[-1] == "runs/launched/student.safetensors"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "runs"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["launched"]

    undisturbed = begin(tmp_path, *TORCHRUN, name="whole")
    assert undisturbed.wait(PATIENCE) == 0
    whole = RunFolder(tmp_path / "runs" / "whole")
    weights, wanted = load_file(run.student), load_file(whole.student)
    assert all((weights[key] == wanted[key]).all() for key in wanted)
    assert not differences(run.epochs(), whole.epochs())
    assert run.summary()["processes"] == whole.summary()["processes"] == 2
