"""Weight update: from a step's gradients to new weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from stillroom.engine.averaged_weights import AveragedWeights
from stillroom.engine.fine_tuning import parameter_groups
from stillroom.engine.learning_rate import lr_at, set_lr
from stillroom.engine.optimizer import build_optimizer
from stillroom.engine.training_job import Job
from stillroom.optim import StreamOptimizer


class WeightUpdate:
    """Learning rate, gradient clipping, optimizer and averaged weights.

    Args:
        job: the student and the method with the parameters to train, on their device, and the settings.
        steps: number of steps in an epoch.
    """

    def __init__(self, job: Job, steps: int) -> None:
        self._student, self._optim, self._run, self._steps = job.student, job.recipe.optim, job.recipe.run, steps
        groups = parameter_groups(job.student, job.method.parameters(), job.head, self._optim)
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = build_optimizer(groups, self._optim, compiled=self._run.compile)
        self.averaged = None if self._optim.ema is None else AveragedWeights(job.student, self._optim.ema)

    @property
    def exported(self) -> nn.Module:
        """The module whose weights are validated and exported: the student, or its averaged copy."""
        return self._student if self.averaged is None or not self._optim.ema_export else self.averaged.module

    @property
    def compared(self) -> nn.Module | None:
        """The averaged copy, where it is validated beside the student; else None."""
        return None if self.averaged is None or self._optim.ema_export else self.averaged.module

    def step(self, epoch: int, step: int) -> None:
        """Update the weights by the gradients of a step, and remove the gradients.

        Args:
            epoch: counted from 1.
            step: within the epoch, counted from 0.
        """
        set_lr(self.optimizer, lr_at(self._optim, epoch, step, self._steps, self._run.epochs))
        if self._optim.clip_grad_norm is not None:
            if isinstance(self.optimizer, StreamOptimizer):
                self.optimizer.clip_gradients(self._optim.clip_grad_norm)
            else:
                nn.utils.clip_grad_norm_(self._parameters, self._optim.clip_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.averaged is not None:
            self.averaged.update(self._student, (epoch - 1) * self._steps + step + 1)

    def deliver(self) -> None:
        """Give the student the weights to export, at the end of a run."""
        if self.exported is not self._student:
            self._student.load_state_dict(self.exported.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """All that continues a run, for its checkpoint."""
        averaged = {} if self.averaged is None else {"averaged": self.averaged.state_dict()}
        return {"optimizer": self.optimizer.state_dict(), **averaged}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it from a checkpoint's entries.

        Raises:
            KeyError: an entry is missing.
            ValueError: the optimizer's state is of other parameters.
        """
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
