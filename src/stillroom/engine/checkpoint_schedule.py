"""Checkpoint schedule: after which epochs, steps or minutes a run saves its checkpoint."""

from __future__ import annotations

import time

from stillroom.config import RunOptions


class CheckpointSchedule:
    """Says when a checkpoint is due.

    Args:
        options: the number of epochs, and ``checkpoint_every``, ``checkpoint_steps`` and ``checkpoint_minutes``.
        steps: optimizer steps in an epoch.
    """

    def __init__(self, options: RunOptions, steps: int) -> None:
        self._options, self._steps = options, steps
        self._since = time.monotonic()

    def saved(self) -> None:
        """Count the minutes from now on."""
        self._since = time.monotonic()

    def minutes_passed(self) -> bool:
        """Whether a checkpoint is due by this process's clock."""
        minutes = self._options.checkpoint_minutes
        return minutes is not None and time.monotonic() - self._since >= 60 * minutes

    def after_step(self, epoch: int, step: int) -> bool:
        """Whether a checkpoint is due after a step by ``checkpoint_steps``, counted from the start of the run.

        Args:
            epoch: the current one, from 1.
            step: number of steps done in it.
        """
        every = self._options.checkpoint_steps
        return every is not None and ((epoch - 1) * self._steps + step) % every == 0

    def after_epoch(self, done: int) -> bool:
        """Whether a checkpoint is due after an epoch, which is also the number of epochs done."""
        return done % self._options.checkpoint_every == 0 or done == self._options.epochs
