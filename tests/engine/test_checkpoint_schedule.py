from __future__ import annotations

from dataclasses import replace

from stillroom.config import RunOptions
from stillroom.engine import checkpoint_schedule
from stillroom.engine.checkpoint_schedule import CheckpointSchedule


def test_steps_are_counted_over_epochs():
    schedule = CheckpointSchedule(RunOptions(checkpoint_steps=4), steps=6)
    due = [(e, s) for e in (1, 2) for s in range(1, 7) if schedule.after_step(e, s)]
    assert due == [(1, 4), (2, 2), (2, 6)]
    assert not CheckpointSchedule(RunOptions(), steps=6).after_step(1, 4)


def test_minutes_count_from_the_last_checkpoint(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoint_schedule.time, "monotonic", lambda: now[0])
    schedule = CheckpointSchedule(RunOptions(checkpoint_minutes=2.0), steps=6)
    now[0] = 119.0
    assert not schedule.minutes_passed()
    now[0] = 120.0
    assert schedule.minutes_passed()
    schedule.saved()
    assert not schedule.minutes_passed()


def test_epochs_and_the_end_are_saved():
    options = replace(RunOptions(), checkpoint_every=3, epochs=7)
    schedule = CheckpointSchedule(options, steps=6)
    assert [done for done in range(1, 8) if schedule.after_epoch(done)] == [3, 6, 7]
