"""Weights & Biases: a run in the project ``stillroom``, or in that of the variable WANDB_PROJECT.

wandb reads its own environment variables: WANDB_MODE=offline, WANDB_ENTITY, WANDB_RUN_GROUP and others.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Any

import wandb

from stillroom.loggers.logger import LoggedRun, Logger, numbers_in


class WandbLogger(Logger):
    """Logs to Weights & Biases. The step is the optimizer step; "epoch" is a number beside the others.

    A resumed run keeps its id. wandb ignores a step that it has already.
    """

    _at: wandb.Run
    _run: LoggedRun
    _finished = False

    def start(self, run: LoggedRun) -> None:
        """Start the run there, or continue it; its local files lie in the folder ``wandb`` of the run folder."""
        known = run.known_id("wandb")
        run_id = known or secrets.token_hex(4)
        # No program that the working directory's repository names may run, so git is off.
        quiet = wandb.Settings(console="off", disable_git=True, save_code=False)
        self._run = run
        self._at = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "stillroom"), name=run.name, id=run_id,
            resume=None if known is None else "allow", dir=str(run.folder), config=dict(run.settings),
            allow_val_change=True, reinit="create_new", settings=quiet,
        )  # fmt: skip
        if known is None:
            run.keep_id("wandb", run_id)

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """Log each term as "step/NAME"."""
        self._at.log({f"step/{name}": value for name, value in losses.items()}, step=step)

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log each number at the last step of the epoch."""
        self._at.log({"epoch": epoch, **metrics}, step=epoch * self._run.steps)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Put the summary's numbers beside those of the last epoch."""
        self._at.summary.update(numbers_in(summary, "summary/"))
        self._finished = True

    def close(self) -> None:
        """End the run there; one that is not finished counts as failed until it is continued."""
        self._at.finish(exit_code=0 if self._finished else 1)
