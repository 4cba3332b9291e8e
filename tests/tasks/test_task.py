"""What every task offers to the training loop."""

from __future__ import annotations

import inspect

import pytest

from stillroom.scores import SCORES
from stillroom.tasks.classification import Classification
from stillroom.tasks.detection import Detection
from stillroom.tasks.task import Task

TASKS = [Classification, Detection]


@pytest.mark.parametrize("kind", TASKS)
def test_a_task_has_what_the_loop_calls(kind):
    assert kind.score is SCORES[kind.name]
    for name, wanted in inspect.getmembers(Task, inspect.isfunction):
        if not name.startswith("_"):
            assert [*inspect.signature(getattr(kind, name)).parameters] == [*inspect.signature(wanted).parameters]
