"""Progress output of a run: a live bar on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stillroom.formatting import duration
from stillroom.scores import score_text

Values = Callable[[], Mapping[str, float]]


class Reporter(Protocol):
    """Progress callbacks of the training loop."""

    def start(self, name: str, epochs: int, steps: int, done: int, about: Sequence[str] = ()) -> None:
        """A run starts, or resumes after ``done`` steps; ``about`` are lines that describe it."""

    def step(self, epoch: int, images: int, values: Values) -> None:
        """A step is done. ``values`` copies the losses from the device: call it only to show them."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch is done."""

    def say(self, text: str) -> None:
        """Show any other message."""

    def close(self) -> None:
        """The run has ended, with or without an error."""


class Silent:
    """Shows nothing."""

    def start(self, name: str, epochs: int, steps: int, done: int, about: Sequence[str] = ()) -> None:
        """Ignore."""

    def step(self, epoch: int, images: int, values: Values) -> None:
        """Ignore."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""

    def close(self) -> None:
        """Ignore."""


class Lines:
    """Plain lines for logs and pipes: a description of the run, then one line per epoch with the remaining time.

    Args:
        write: receives each line.
    """

    def __init__(self, write: Callable[[str], object] = print) -> None:
        self._write = write
        self._name, self._epochs = "", 0
        self._left: Callable[[int], float | None] = lambda epoch: None  # noqa: ARG005

    def start(self, name: str, epochs: int, steps: int, done: int, about: Sequence[str] = ()) -> None:
        """Print the description of the run."""
        self._name, self._epochs = name, epochs
        begin, epochs_before = time.monotonic(), done / steps

        def left(epoch: int) -> float | None:
            new = epoch - epochs_before  # 0 for a run that was stopped after the last step of an epoch, before its end
            return (time.monotonic() - begin) / new * (epochs - epoch) if new > 0 and epoch < epochs else None

        self._left = left
        for line in about:
            self._write(f"{name}: {line}")

    def step(self, epoch: int, images: int, values: Values) -> None:
        """Print nothing inside an epoch."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Print the epoch's metrics."""
        terms = "  ".join(f"{name} {value:.4g}" for name, value in row["terms"].items())
        left = self._left(row["epoch"])
        self._write(
            f"{self._name}: epoch {row['epoch']}/{self._epochs}  {terms}  {_scores(row)}"
            f"{row['images_per_second']:.0f} images/s" + ("" if left is None else f"  about {duration(left)} left")
        )

    def say(self, text: str) -> None:
        """Print the message."""
        self._write(text)

    def close(self) -> None:
        """Do nothing: no resource is open."""


class Live:
    """A progress bar with epoch, speed, losses, score and remaining time.

    Args:
        console: it draws the bar.
    """

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description:<8}", markup=False),
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[speed]:>6.0f} images/s"),
            TextColumn("{task.fields[losses]}", style="dim", markup=False),
            TextColumn("{task.fields[score]}", style="bold"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            refresh_per_second=8,
        )
        self._task: TaskID | None = None
        self._waiting = self._images = 0
        self._shown = 0.0

    def start(self, name: str, epochs: int, steps: int, done: int, about: Sequence[str] = ()) -> None:
        """Print the description of the run and draw a bar over all its steps."""
        for finished in self._bar.task_ids:  # the bar of the previous run stays printed above
            self._bar.remove_task(finished)
        for line in about:
            self.say(f"{name}: {line}")
        self._bar.start()
        self._task = self._bar.add_task(
            name, total=epochs * steps, completed=done, epoch=done // steps + 1, epochs=epochs,
            speed=0.0, losses="", score="",
        )  # fmt: skip
        self._waiting = self._images = 0
        self._shown = time.perf_counter()

    def step(self, epoch: int, images: int, values: Values) -> None:
        """Advance the bar; its values are updated four times a second."""
        assert self._task is not None
        self._waiting += 1
        self._images += images
        now = time.perf_counter()
        if now - self._shown < 0.25:
            return
        losses = " ".join(f"{name} {value:.3f}" for name, value in values().items())
        speed = self._images / (now - self._shown)
        self._bar.update(self._task, advance=self._waiting, epoch=epoch, losses=losses, speed=speed)
        self._waiting, self._images, self._shown = 0, 0, now

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Show the main score of the epoch."""
        assert self._task is not None
        self._bar.update(self._task, advance=self._waiting, score=_score(row, 1), speed=row["images_per_second"])
        self._waiting, self._images, self._shown = 0, 0, time.perf_counter()

    def say(self, text: str) -> None:
        """Print the message above the bar."""
        self._bar.console.print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Stop updating the bar; it stays on the screen."""
        self._bar.stop()


def _score(row: Mapping[str, Any], digits: int) -> str:
    """The main score, or where it cannot be measured agreement with the teacher; empty without both."""
    if text := score_text(row, digits):
        return f"val {text}"
    same = row.get("agreement")
    return "" if same is None else f"agreement with the teacher {same:.{digits}f} %"


def _scores(row: Mapping[str, Any]) -> str:
    """The known scores on training, validation and held-out images, each followed by two spaces."""
    train = "" if row.get("train_top1") is None else f"train {row['train_top1']:.2f} %"
    held_out = next((f"held-out {row[name]:.2f} %" for name in ("stop_top1", "stop_agreement") if name in row), "")
    return "".join(f"{words}  " for words in (train, _score(row, 2), held_out) if words)


def make_console(*, stderr: bool) -> Console:
    """A console without markup: brackets and colons in names are printed literally."""
    return Console(stderr=stderr, markup=False, emoji=False)


def make_reporter(show: bool = True) -> Reporter:
    """A live bar on a terminal, lines elsewhere; nothing if ``show`` is false."""
    if not show:
        return Silent()
    console = make_console(stderr=True)
    if console.is_terminal:
        return Live(console)
    return Lines(lambda text: print(text, file=sys.stderr, flush=True))
