from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from stillroom.compare import live_board
from stillroom.compare.grid import Cell, Grid
from stillroom.compare.live_board import Clock, LineBoard, ScreenBoard


@pytest.fixture
def grid(tmp_path):
    """Three cells of four epochs: one finished, one at its second epoch, one not begun."""
    cells = [Cell(name, "distill", {"epochs": 4, "runs": str(tmp_path)}) for name in ("done", "begun", "waiting")]
    for name, epochs in (("done", 4), ("begun", 1)):
        (tmp_path / name).mkdir()
        rows = [json.dumps({"epoch": i + 1, "val_top1": 10.0 * (i + 1)}) for i in range(epochs)]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "done" / "summary.json").write_text("{}")
    return Grid(tmp_path, tuple(cells), {})


def test_time_left_follows_from_the_epochs_done_since_the_start(grid, monkeypatch):
    now = iter([100.0, 130.0])
    monkeypatch.setattr(live_board.time, "monotonic", lambda: next(now))
    clock = Clock(grid)
    assert (clock.total, clock.before) == (12, 5)
    assert clock.seconds_left(5) is None
    assert clock.seconds_left(8) == pytest.approx(30 / 3 * 4)


def test_lines_say_what_is_done_and_each_failure_once(grid):
    said = []
    lines = LineBoard(grid, said.append)
    lines.done(grid.cells[0])
    lines.update([grid.cells[1]], {"begun": "it broke"})
    lines.update([], {"begun": "it broke"})
    assert said == ["1/3 done: 40.00 %", "begun failed: it broke"]


def test_a_damaged_record_of_a_cell_stops_nothing(grid):
    (grid.folder / "done" / "metrics.jsonl").write_text('{"epoch": 1, "val_')
    said = []
    LineBoard(grid, said.append).done(grid.cells[0])
    assert said == ["1/3 done: accuracy unknown"]


def test_the_screen_shows_done_running_and_failed(grid):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    screen = ScreenBoard(grid, console)
    screen.update([grid.cells[1]], {"waiting": "it broke"})
    screen.close()
    text = console.file.getvalue()
    for part in ("1 of 3 runs done", "1 failed", "begun", "epoch 2/4", "val 10.0 %", "waiting: it broke"):
        assert part in text


def test_a_cell_that_trains_a_detector_is_told_by_its_ap(grid):
    (grid.folder / "done" / "metrics.jsonl").write_text('{"epoch": 1, "val_ap": 12.5, "val_ap50": 30}\n')
    said = []
    LineBoard(grid, said.append).done(grid.cells[0])
    assert said == ["1/3 done: AP 12.50 %, AP50 30.00 %"]
