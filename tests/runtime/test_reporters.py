from __future__ import annotations

import io

from rich.console import Console

from stillroom.runtime.reporters import Lines, Live, make_console

ROW = {"epoch": 1, "terms": {"ce": 1.25, "kd": 0.5}, "train_top1": 40.0, "val_top1": 50.0, "images_per_second": 900.0}


def test_logs_get_what_the_run_is_and_one_line_an_epoch():
    lines = []
    reporter = Lines(lines.append)
    reporter.start("run", 1, 10, 5, ["what it is", "1 epoch of 10 steps"])
    for _ in range(10):
        reporter.step(1, 4, dict)
    reporter.epoch(ROW)
    reporter.say("something")
    reporter.close()
    assert lines[:2] == ["run: what it is", "run: 1 epoch of 10 steps"]
    assert lines[2] == "run: epoch 1/1  ce 1.25  kd 0.5  train 40.00 %  val 50.00 %  900 images/s"
    assert lines[3:] == ["something"]


def test_logs_say_how_much_time_is_left_at_the_pace_since_the_start(monkeypatch):
    lines, clock = [], [1000.0]
    monkeypatch.setattr("stillroom.runtime.reporters.time.monotonic", lambda: clock[0])
    reporter = Lines(lines.append)
    reporter.start("run", 4, 10, 5)  # half an epoch lies behind it
    for epoch, seconds in ((1, 30.0), (2, 60.0), (4, 60.0)):
        clock[0] += seconds
        reporter.epoch(ROW | {"epoch": epoch})
    assert [line.partition("images/s")[2] for line in lines] == ["  about 3:00 left", "  about 2:00 left", ""]


def test_an_epoch_that_was_done_before_the_start_tells_nothing_of_the_pace():
    lines = []
    reporter = Lines(lines.append)
    reporter.start("run", 4, 10, 10)
    reporter.epoch(ROW)
    assert lines[0].endswith("900 images/s")


def test_a_terminal_shows_epoch_speed_losses_and_accuracy():
    console = Console(file=io.StringIO(), force_terminal=True, width=150)
    reporter = Live(console)
    reporter.start("run", 2, 2, 0, ["what it is"])
    reporter._shown -= 1  # as if a second had passed
    reporter.step(1, 64, lambda: {"ce": 1.25})
    reporter.step(1, 64, lambda: {"ce": 9.75})  # too soon to be shown
    reporter.epoch(ROW)
    reporter.say("a word")
    reporter.close()
    shown = console.file.getvalue()
    for text in ("run: what it is", "epoch 1/2", "ce 1.250", "val 50.0 %", "a word"):
        assert text in shown
    assert "9.75" not in shown
    assert reporter._bar.tasks[0].completed == 2


def test_brackets_and_colons_in_a_name_are_no_markup(capsys):
    reporter = Live(make_console(stderr=True))
    reporter.say("photos [new]/:car: [/tmp] are read")
    console = Console(file=io.StringIO(), force_terminal=True, width=150)
    reporter = Live(console)
    reporter.start("[red]", 2, 2, 0)
    reporter._shown -= 1
    reporter.step(1, 64, lambda: {"mine[/a]": 1.25})
    reporter.close()
    assert "photos [new]/:car: [/tmp] are read" in capsys.readouterr().err
    assert "[red]" in console.file.getvalue()
    assert "mine[/a] 1.250" in console.file.getvalue()


def test_an_epoch_of_a_detector_is_told_by_its_ap():
    lines = []
    reporter = Lines(lines.append)
    reporter.start("run", 1, 10, 0)
    scores = {"val_ap": 12.346, "val_ap50": 30.5, "val_ap75": 9.0}
    reporter.epoch({"epoch": 1, "terms": {"supervised": 1.5}, **scores, "images_per_second": 9})
    assert lines == ["run: epoch 1/1  supervised 1.5  val AP 12.35 %, AP50 30.50 %  9 images/s"]
