"""Runs that Ray Train starts: on two nodes of which one is lost, and what the driver and a process do alone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from types import SimpleNamespace

import psutil
import pytest
from safetensors.torch import load_file

from stillroom import distill, train
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import Diverged, InputError, Stopped
from stillroom.launcher import launch_ray
from stillroom.launcher.mailbox import Mailbox
from stillroom.runtime.reporters import Silent
from stillroom.runtime.signals import StopRequest
from tests.conftest import colour_folder, tiny_model
from tests.durability.whole import differences
from tests.ray_nodes import lose, two_nodes

SETTINGS = {
    "model": "stillroom.models.demo_nets:small", "data": "photos", "epochs": 30, "batch_size": 8, "accelerator": "cpu",
    "precision": "32",
}  # fmt: skip
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def begin(folder, *before, **settings):
    words = [word for name, value in {**SETTINGS, **settings}.items() for word in (f"--{name}", str(value))]
    return subprocess.Popen(
        [sys.executable, *before, "-m", "stillroom.cli", "train", *words], env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
    )  # fmt: skip


def wait_for_epochs(process, run, count):
    end = time.monotonic() + 240
    while not run.finished and not (run.path.is_dir() and run.last.exists() and len(run.epochs()) >= count):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)


def wait_until(holds):
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


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


def test_a_run_on_two_nodes_is_stopped_and_loses_a_node_and_ends_as_two_processes_of_torchrun_do(tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "photos").mkdir()
    colour_folder(tmp_path / "photos", count=20, side=8)
    run = RunFolder(tmp_path / "runs" / "launched")
    with two_nodes() as (cluster, second):
        there = {"launcher": "ray", "ray": cluster.address, "name": "launched"}
        process = begin(tmp_path, **there, processes=2)
        wait_for_epochs(process, run, 1)
        assert len(left()) == 2
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=240)[1]
        assert process.returncode == 128 + signal.SIGTERM
        assert "everything is saved in runs/launched" in said
        assert not run.finished
        wait_until(lambda: not left())

        process = begin(tmp_path, **there, processes=2)
        wait_for_epochs(process, run, len(run.epochs()) + 2)
        lose(cluster, second)
        out, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
        assert "all processes were started again (1)" in said
        assert "epoch 30/30" in said
        assert out.splitlines()[-1] == "runs/launched/student.safetensors"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "runs"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["launched"]

    undisturbed = begin(tmp_path, *TORCHRUN, name="whole")
    assert undisturbed.wait(240) == 0
    whole = RunFolder(tmp_path / "runs" / "whole")
    weights, wanted = load_file(run.student), load_file(whole.student)
    assert all((weights[key] == wanted[key]).all() for key in wanted)
    assert not differences(run.epochs(), whole.epochs())
    assert run.summary()["processes"] == whole.summary()["processes"] == 2


def test_objects_are_refused_for_they_cannot_be_sent(tmp_path, tiny_data):
    pytest.importorskip("ray")
    settings = {"launcher": "ray", "processes": 2, "runs": str(tmp_path)}
    with pytest.raises(InputError, match=r"^launcher=ray: student is a Python object.*package\.module:function"):
        train(model=tiny_model(), data="glyphs100", **settings)
    with pytest.raises(InputError, match=r"^launcher=ray: data is a Python object"):
        distill(teacher="resnet20", student="resnet8", data=tiny_data, **settings)
    assert not list(tmp_path.iterdir())


def test_one_launcher_inside_another_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"^launcher=ray starts its own processes.*without torchrun"):
        train(model="resnet8", data="glyphs100", launcher="ray", processes=2)


class Line:
    """A mailbox and Ray's calls to it, in this process."""

    def __init__(self):
        self.box = Mailbox()

    def __getattr__(self, name):
        return SimpleNamespace(remote=lambda *given: getattr(self.box, name)(*given))

    def get(self, call):
        return asyncio.run(call)


def followed(line, fit=None, number=0):
    said = []
    reporter = Silent()
    reporter.say = said.append
    launch_ray._follow(line, fit or Future(), line, StopRequest(number), reporter)
    return said


def test_the_error_of_a_process_is_the_error_of_the_run():
    for error in (InputError("lr=9"), Diverged("step 3"), Stopped("saved", 15)):
        line = Line()
        line.get(line.end.remote(type(error).__name__, str(error)))
        line.get(line.end.remote("InputError", "a later one"))
        with pytest.raises(type(error), match=f"^{error}$") as raised:
            followed(line, number=15)
        assert getattr(raised.value, "signal_number", 15) == 15


def test_a_run_that_is_stopped_before_it_trains_ends_at_once_and_later_waits_until_it_is_saved(monkeypatch):
    with pytest.raises(Stopped, match="continues the run from where it was"):
        followed(Line(), number=2)
    monkeypatch.setattr(launch_ray, "SECONDS_TO_SAVE", 0.5)
    line = Line()
    line.get(line.begin_training.remote())
    with pytest.raises(Stopped, match="did not save in time"):
        followed(line, number=2)
    assert line.get(line.requested.remote()) == 2


def test_lines_are_printed_also_those_before_the_end_and_a_failure_says_how_to_go_on():
    line, fit = Line(), Future()
    line.get(line.say.remote("epoch 1"))
    fit.set_result(None)
    assert followed(line, fit) == ["epoch 1"]
    fit = Future()
    fit.set_exception(RuntimeError("Training failed due to worker errors"))
    with pytest.raises(ChildProcessError, match="the same command continues it\nTraining failed"):
        followed(line, fit)
