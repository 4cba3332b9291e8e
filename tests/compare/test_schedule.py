from __future__ import annotations

from concurrent.futures import Future

import pytest

from stillroom.compare import schedule
from stillroom.compare.grid import Cell, Grid
from stillroom.compare.run_cell import Outcome
from stillroom.compare.schedule import Schedule
from stillroom.runtime.signals import StopRequest


class Board:
    """Remembers what it was told."""

    def __init__(self):
        self.finished, self.said = [], []

    def update(self, running, failed):
        self.running = [cell.name for cell in running]

    def done(self, cell):
        self.finished.append(cell.name)

    def say(self, text):
        self.said.append(text)

    def close(self):
        pass


class Workers:
    """Takes every cell; ends the oldest one each time the schedule looks, as the script says."""

    def __init__(self, script=None):
        self.script = {name: list(ends) for name, ends in (script or {}).items()}
        self.begun, self.open, self.slots = [], [], {}
        self.together = 0

    def submit(self, function, cell, log, threads, slot):
        future = Future()
        self.begun.append(cell.name)
        assert slot not in self.slots.values()
        self.slots[future] = slot
        self.open.append((future, cell))
        self.together = max(self.together, len(self.open))
        return future

    def look(self, futures, timeout, return_when):
        future, cell = self.open.pop(0)
        del self.slots[future]
        ends = self.script.get(cell.name)
        end = ends.pop(0) if ends else Outcome()
        if isinstance(end, Exception):
            future.set_exception(end)
        else:
            future.set_result(end)
        return {future}, set()

    def stop(self):
        pass


def cell(name, waits_for="", fills=()):
    return Cell(name, "distill", {"epochs": 1, "runs": "nowhere"}, waits_for=waits_for, fills=fills)


@pytest.fixture
def work_through(tmp_path, monkeypatch):
    def go(cells, script=None, count=2, retries=1, stop=None):
        workers, board = Workers(script), Board()
        monkeypatch.setattr(schedule, "wait", workers.look)
        plan = cells if isinstance(cells, Grid) else Grid(tmp_path, tuple(cells), {})
        made = Schedule(plan, workers, count=count, threads=1, retries=retries, board=board)
        return workers, board, made.run(stop or StopRequest())

    return go


def test_students_wait_for_their_teacher_and_slots_are_never_shared(work_through):
    cells = [cell("t"), cell("a", "t"), cell("b", "t"), cell("c", "t")]
    workers, board, failed = work_through(cells)
    assert board.finished == ["t", "a", "b", "c"]
    assert workers.begun[0] == "t"
    assert workers.together == 2
    assert not failed


def test_the_teacher_is_not_asked_twice_for_the_same_logits_while_there_is_other_work(work_through):
    cells = [cell("a0", fills=(0,)), cell("b0", fills=(0,)), cell("a1", fills=(1,)), cell("b1", fills=(1,))]
    workers, *_ = work_through(cells)
    assert workers.begun == ["a0", "a1", "b0", "b1"]


def grid_of_seeds(count):
    """Three methods with each seed, which has its own part of the teacher bank."""
    return [cell(f"{method}{seed}", fills=(seed,)) for seed in range(count) for method in "abc"]


def test_the_last_part_of_the_bank_is_filled_while_others_still_have_work(work_through):
    workers, *_ = work_through(grid_of_seeds(3))
    assert workers.begun == ["a0", "a1", "a2", "b0", "c0", "b1", "c1", "b2", "c2"]


def test_parts_of_the_bank_are_not_filled_long_before_their_turn(work_through):
    workers, *_ = work_through(grid_of_seeds(8))
    for seed in range(5):
        assert workers.begun.index(f"c{seed}") < workers.begun.index(f"a{seed + 3}")


def test_with_one_worker_the_runs_keep_their_order(work_through):
    workers, *_ = work_through(grid_of_seeds(3), count=1)
    assert workers.begun == [one.name for one in grid_of_seeds(3)]


def test_work_on_the_same_logits_goes_on_side_by_side_when_there_is_no_other(work_through):
    workers, *_ = work_through([cell("a", fills=(0,)), cell("b", fills=(0,))])
    assert workers.together == 2


def test_a_run_that_died_is_tried_again_and_the_others_never_notice(work_through):
    script = {"a": [RuntimeError("killed")], "b": [Outcome("OSError: disk", again=True)]}
    workers, board, failed = work_through([cell("a"), cell("b"), cell("c")], script)
    assert not failed
    assert workers.begun.count("a") == workers.begun.count("b") == 2
    assert sorted(board.finished) == ["a", "b", "c"]
    assert any("a: its process died" in line for line in board.said)


def test_a_run_that_keeps_failing_is_given_up(work_through):
    workers, board, failed = work_through([cell("a"), cell("b")], {"a": [Outcome("bad", again=True)] * 9}, retries=2)
    assert workers.begun.count("a") == 3
    assert board.finished == ["b"]
    assert failed["a"].startswith("bad (see ")


def test_settings_that_cannot_work_are_not_tried_again(work_through):
    workers, _, failed = work_through([cell("a")], {"a": [Outcome("no such model")]}, retries=5)
    assert workers.begun == ["a"]
    assert list(failed) == ["a"]


def test_students_of_a_teacher_that_failed_are_not_begun(work_through):
    workers, board, failed = work_through([cell("t"), cell("a", "t"), cell("other")], {"t": [Outcome("no")]})
    assert "a" not in workers.begun
    assert failed["a"] == "its teacher's run t failed"
    assert board.finished == ["other"]


def test_runs_that_ctrl_c_stopped_are_no_failures(work_through, monkeypatch):
    stop = StopRequest()
    look = Workers.look

    def press(self, *rest, **named):
        stop.signal_number = 2
        return look(self, *rest, **named)

    monkeypatch.setattr(Workers, "look", press)
    _, board, failed = work_through([cell("a")], {"a": [Outcome("Stopped: saved", again=True)]}, stop=stop)
    assert not failed
    assert not board.said


def test_a_stop_request_begins_nothing_more(work_through):
    workers, *_ = work_through([cell("a")], stop=StopRequest(15))
    assert workers.begun == []


def test_a_run_that_was_told_to_stop_is_no_failure_and_what_did_not_save_is_named(tmp_path, monkeypatch):
    request, told = StopRequest(), Outcome("stopped in epoch 2", again=True, stopped=True)
    workers = Workers({"a": [told]})
    board = Board()
    cells = tuple(cell(name) for name in "abc")
    planned = Schedule(Grid(tmp_path, cells, {}), workers, count=3, threads=1, retries=5, board=board)
    monkeypatch.setattr(schedule, "wait", workers.look)
    monkeypatch.setattr(schedule.time, "sleep", lambda _: request.take(15))  # the signal is on its way to us, too
    assert planned.run(request) == {}
    assert workers.begun == ["a", "b", "c"]
    (b, _), (c, _) = workers.open
    b.set_result(Outcome())
    c.set_exception(RuntimeError("its process died"))
    assert planned.unsaved() == ["c"]


class Growing(Grid):
    """A plan that gives a cell more after every result, up to three, and that counts a divergence as a result."""

    def more(self):
        count = len(self.record["given"])
        self.record["given"] += [cell(f"new{count}")] if count < 3 else []
        return self.record["given"][count:]

    def takes_divergence(self, cell, problem):
        self.record["diverged"] = (cell.name, problem)
        return True


def test_cells_that_follow_from_results_are_run_and_a_divergence_is_a_result_where_the_plan_says_so(
    tmp_path, work_through
):
    plan = Growing(tmp_path, (cell("a"), cell("b")), {"given": []})
    script = {"b": [Outcome("Diverged: loss is nan", diverged=True)]}
    workers, board, failed = work_through(plan, script)
    assert workers.begun == ["a", "b", "new0", "new1", "new2"]
    assert plan.record["diverged"] == ("b", "Diverged: loss is nan")
    assert board.said == ["b: Diverged: loss is nan; it counts as the worst score"]
    assert not failed


def test_a_divergence_is_a_failure_of_a_comparison_and_is_not_repeated(work_through):
    workers, _, failed = work_through([cell("a")], {"a": [Outcome("Diverged: loss is nan", diverged=True)]})
    assert workers.begun == ["a"]
    assert list(failed) == ["a"]
