from __future__ import annotations

import pytest
import torch

from stillroom.engine import polling
from stillroom.engine.polling import Polling
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import Group

ALONE = Group(Machine(torch.device("cpu"), "32"))


def steps_looked_at(monkeypatch, seconds_a_step, steps, every_step=False):
    """Two processes of which only the first tells how fast it is; where each looks, and when."""
    now = [0.0]
    monkeypatch.setattr(polling.time, "monotonic", lambda: now[0])
    first, other = Polling(ALONE, every_step=every_step), Polling(ALONE, every_step=every_step)
    seen, told = [], 0.0
    for _ in range(steps):
        now[0] += seconds_a_step
        told, dues = first.pace, (first.due(), other.due())
        assert dues[0] == dues[1]
        if dues[0]:
            seen.append(now[0])
            for each in (first, other):
                each.plan(told)
    return seen


@pytest.mark.parametrize(("seconds_a_step", "longest"), [(0.001, 0.05), (0.05, 1.0), (0.4, 1.0), (7.0, 7.0)])
def test_the_device_is_waited_for_about_once_a_second_and_in_all_processes_at_once(
    monkeypatch, seconds_a_step, longest
):
    seen = steps_looked_at(monkeypatch, seconds_a_step, 300)
    gaps = [after - before for before, after in zip([0.0, *seen], seen, strict=False)]
    assert max(gaps) <= longest + 1e-6
    assert max(gaps) > longest / 2


def test_on_a_cpu_every_step_is_looked_at(monkeypatch):
    assert len(steps_looked_at(monkeypatch, 0.001, 60, every_step=True)) == 60
