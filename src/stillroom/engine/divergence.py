"""Divergence: NaN or infinite values in the losses, weights or optimizer state."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stillroom.engine.checkpoint import Progress
from stillroom.engine.training_job import Job
from stillroom.errors import Diverged


class DivergenceCheck:
    """Checks losses, weights and optimizer state for NaN and infinite values.

    Tensors that have such values before training, such as masks, are not checked.

    Args:
        job: holds the student and the method to check.
        optimizer: holds the state of each parameter to check.
        steps: number of steps in one epoch, for messages.
    """

    def __init__(self, job: Job, optimizer: Optimizer, steps: int) -> None:
        self._job, self._optimizer, self._steps = job, optimizer, steps
        self._modules: dict[str, nn.Module] = {"student": job.student, "method": job.method}
        self._from_start = {name for name, value in self._state() if not bool(value.isfinite().all())}

    def check_losses(self, now: Progress, since: int) -> None:
        """Check the losses of this epoch's latest steps.

        Args:
            now: holds the losses of the epoch.
            since: the first step to check.

        Raises:
            Diverged: a loss is not finite.
        """
        recent = now.losses[since : now.step]
        if bool(recent.isfinite().all()):
            return
        step, term = (int(i) for i in (~recent.isfinite()).nonzero()[0])
        name = self._job.method.term_names[term]
        raise self.error(f"loss term {name!r} became {float(recent[step, term])}", now, since + step + 1)

    def check_state(self, now: Progress) -> None:
        """Check losses, weights and optimizer state, before they are evaluated or saved.

        Raises:
            Diverged: a loss of this epoch, a weight, or a value of the optimizer's state is not finite.
        """
        self.check_losses(now, 0)  # a stop request may come between two checks of the losses
        if trouble := self.not_finite():
            raise self.error(trouble, now, now.step)

    def error(self, what: str, now: Progress, step: int) -> Diverged:
        """The exception for a value that is not finite after a step of this epoch."""
        last = self._job.run.last
        kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was saved yet"
        return Diverged(
            f"{what} in epoch {now.epoch}, step {step} of {self._steps}; {kept}. Lower lr or the weight of "
            "a term, or use precision=32"
        )

    def not_finite(self) -> str:
        """Describe the first value of the state that is not finite; empty if all are finite."""
        found = [(name, value) for name, value in self._state() if name not in self._from_start]
        finite = [value.isfinite().all() for _, value in found]
        if not finite or bool(torch.stack(finite).all()):
            return ""
        name, value = next(pair for pair, well in zip(found, finite, strict=True) if not well)
        return f"{name} became {float(value[~value.isfinite()][0])}"

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        names: dict[int, str] = {}
        for role, module in self._modules.items():
            for name, value in module.state_dict(keep_vars=True).items():
                if isinstance(value, Tensor) and value.is_floating_point():
                    names[id(value)] = f"{role} {name!r}"
                    yield names[id(value)], value.detach()
        for parameter, state in self._optimizer.state.items():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.is_floating_point():
                    # A step count may be on another device than its parameter.
                    yield f"optimizer's {name} of {names.get(id(parameter), 'a parameter')}", value.to(parameter.device)
