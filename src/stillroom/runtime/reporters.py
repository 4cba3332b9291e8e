"""What a person sees while a run goes on: a live bar on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stillroom.formatting import duration

Values = Callable[[], Mapping[str, float]]


class Reporter(Protocol):
    """What the loop tells; implementations only show it."""

    def start(self, name: str, epochs: int, steps: int, done: int, about: Sequence[str] = ()) -> None:
        """A run begins, or goes on with ``done`` steps behind it; ``about`` describes it, in lines."""

    def step(self, epoch: int, images: int, values: Values) -> None:
        """A step is done; ``values`` reads the losses off the device, so it is called only when they are shown."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch is done."""

    def say(self, text: str) -> None:
        """Anything else worth a line."""

    def close(self) -> None:
        """The run is over, whatever the outcome."""


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
    """What a run is, then one plain line an epoch with the time left, for logs and pipes.

    Args:
        write: receives each line.
    """

    def __init__(self, write: Callable[[str], object] = print) -> None:
        self._write = write
        self._name, self._epochs = "", 0
        self._left: Callable[[int], float | None] = lambda epoch: None  # noqa: ARG005

    def start(self, name: str, epochs: int, steps: int, done: int, about: Sequence[str] = ()) -> None:
        """Say what begins."""
        self._name, self._epochs = name, epochs
        begin, behind = time.monotonic(), done / steps

        def left(epoch: int) -> float | None:
            fresh = epoch - behind  # none where a run was stopped between the last step of an epoch and its end
            return (time.monotonic() - begin) / fresh * (epochs - epoch) if fresh > 0 and epoch < epochs else None

        self._left = left
        for line in about:
            self._write(f"{name}: {line}")

    def step(self, epoch: int, images: int, values: Values) -> None:
        """Stay quiet inside an epoch."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Print the epoch's numbers."""
        terms = "  ".join(f"{name} {value:.4g}" for name, value in row["terms"].items())
        left = self._left(row["epoch"])
        self._write(
            f"{self._name}: epoch {row['epoch']}/{self._epochs}  {terms}  train {row['train_top1']:.2f} %  "
            f"val {row['val_top1']:.2f} %  {row['images_per_second']:.0f} images/s"
            + ("" if left is None else f"  about {duration(left)} left")
        )

    def say(self, text: str) -> None:
        """Print it."""
        self._write(text)

    def close(self) -> None:
        """Nothing is left open."""


class Live:
    """A progress bar with epoch, speed, losses, accuracy and time left.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description:<8}", markup=False),
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[speed]:>6.0f} images/s"),
            TextColumn("{task.fields[losses]}", style="dim", markup=False),
            TextColumn("{task.fields[accuracy]}", style="bold"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            refresh_per_second=8,
        )
        self._task: TaskID | None = None
        self._waiting = self._images = 0
        self._shown = 0.0

    def start(self, name: str, epochs: int, steps: int, done: int, about: Sequence[str] = ()) -> None:
        """Say what begins, and draw a bar over all steps of the run."""
        for finished in self._bar.task_ids:  # the run before this one stays printed above
            self._bar.remove_task(finished)
        for line in about:
            self.say(f"{name}: {line}")
        self._bar.start()
        self._task = self._bar.add_task(
            name, total=epochs * steps, completed=done, epoch=done // steps + 1, epochs=epochs,
            speed=0.0, losses="", accuracy="",
        )  # fmt: skip
        self._waiting = self._images = 0
        self._shown = time.perf_counter()

    def step(self, epoch: int, images: int, values: Values) -> None:
        """Move on; the numbers change four times a second."""
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
        """Show the accuracy just measured."""
        assert self._task is not None
        self._bar.update(
            self._task, advance=self._waiting, accuracy=f"val {row['val_top1']:.1f} %", speed=row["images_per_second"]
        )
        self._waiting, self._images, self._shown = 0, 0, time.perf_counter()

    def say(self, text: str) -> None:
        """Print above the bar."""
        self._bar.console.print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()


def make_console(*, stderr: bool) -> Console:
    """A console that prints names as they are: brackets and colons in them are no markup."""
    return Console(stderr=stderr, markup=False, emoji=False)


def make_reporter(show: bool = True) -> Reporter:
    """A live bar on a terminal, lines elsewhere, nothing when told so."""
    if not show:
        return Silent()
    console = make_console(stderr=True)
    if console.is_terminal:
        return Live(console)
    return Lines(lambda text: print(text, file=sys.stderr, flush=True))
