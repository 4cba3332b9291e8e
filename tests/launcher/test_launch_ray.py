"""Runs that Ray Train starts: what the driver does alone. Those on a cluster are in ``tests/test_two_ray_nodes.py``."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from stillroom import distill, train
from stillroom.errors import Diverged, InputError, Stopped
from stillroom.launcher import launch_ray
from stillroom.launcher.mailbox import Mailbox
from stillroom.runtime.reporters import Silent
from stillroom.runtime.signals import StopRequest
from tests.conftest import tiny_model


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
