from __future__ import annotations

import io

from rich.console import Console

from stillroom.engine.progress import Lines, Live, make_console

ROW = {"epoch": 1, "terms": {"ce": 1.25, "kd": 0.5}, "train_top1": 40.0, "val_top1": 50.0, "images_per_second": 900.0}


def test_logs_get_one_line_an_epoch():
    lines = []
    reporter = Lines(lines.append)
    reporter.start("run", 3, 10, 5)
    for _ in range(10):
        reporter.step(1, 4, dict)
    reporter.epoch(ROW)
    reporter.say("something")
    reporter.close()
    assert lines[0] == "run: 3 epochs of 10 steps, going on after step 5"
    assert lines[1] == "run: epoch 1/3  ce 1.25  kd 0.5  train 40.00 %  val 50.00 %  900 images/s"
    assert lines[2:] == ["something"]


def test_a_terminal_shows_epoch_speed_losses_and_accuracy():
    console = Console(file=io.StringIO(), force_terminal=True, width=150)
    reporter = Live(console)
    reporter.start("run", 2, 2, 0)
    reporter._shown -= 1  # as if a second had passed
    reporter.step(1, 64, lambda: {"ce": 1.25})
    reporter.step(1, 64, lambda: {"ce": 9.75})  # too soon to be shown
    reporter.epoch(ROW)
    reporter.say("a word")
    reporter.close()
    shown = console.file.getvalue()
    for text in ("run", "epoch 1/2", "ce 1.250", "val 50.0 %", "a word"):
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
