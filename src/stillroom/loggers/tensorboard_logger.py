"""TensorBoard: event files in the folder ``tensorboard`` of the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from stillroom.loggers.logger import LoggedRun, Logger, numbers_in


class TensorBoardLogger(Logger):
    """Writes event files. The horizontal axis is the optimizer step.

    A resumed run continues in the same folder. TensorBoard drops what an earlier start logged after the checkpoint.
    """

    _writer: SummaryWriter
    _run: LoggedRun

    def start(self, run: LoggedRun) -> None:
        """Open a new event file; steps after ``run.done`` in older ones are void."""
        self._run = run
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.done + 1)
        self._text("settings", run.settings, run.done)

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """Write each term as "step/NAME"."""
        self._write({f"step/{name}": value for name, value in losses.items()}, step)

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write each number at the last step of the epoch, and make them visible."""
        self._write({"epoch": epoch, **metrics}, epoch * self._run.steps)
        self._writer.flush()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the summary as text."""
        self._text("summary", numbers_in(summary), int(summary["last"]["epoch"]) * self._run.steps)

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()

    def _write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def _text(self, name: str, values: Mapping[str, Any], step: int) -> None:
        lines = json.dumps(dict(values), indent=2, default=str, ensure_ascii=False).splitlines()
        text = "\n".join(f"    {line}" for line in lines)  # indented lines are code in Markdown
        self._writer.add_text(name, text, step)
