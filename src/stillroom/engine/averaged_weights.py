"""Averaged weights: the exponential moving average (EMA) of a student's weights and batch-norm statistics."""

from __future__ import annotations

from typing import Any

from torch import nn

from stillroom.errors import InputError, first_line


class AveragedWeights:
    """A copy of a student whose weights are ``decay * average + (1 - decay) * weights`` after every step.

    In step t the decay is at most ``1 - t ** (-2 / 3)``, so that the random initial weights soon count for nothing. It
    depends on the number of the step only.

    Args:
        student: the module that is trained, on its device.
        decay: of the average, in (0, 1).

    Raises:
        InputError: the student cannot be copied.

    Reference:
        Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; timm's ``ModelEmaV3``.
    """

    def __init__(self, student: nn.Module, decay: float) -> None:
        from timm.utils.model_ema import ModelEmaV3  # here because it imports all of timm: slow

        try:
            self._average = ModelEmaV3(student, decay=decay, use_warmup=True)
        except Exception as error:
            raise InputError(
                f"ema={decay}: {type(student).__name__} cannot be copied ({first_line(error)}); leave ema out"
            ) from error
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)

    @property
    def module(self) -> nn.Module:
        """The copy with the averaged weights, in evaluation mode."""
        module: nn.Module = self._average.module
        return module

    def update(self, student: nn.Module, step: int) -> None:
        """Take the weights of a step into the average.

        Args:
            student: the module that is trained.
            step: number of steps since the start of the run, >= 1.
        """
        self._average.update(student, step=step)

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.module.load_state_dict(state)
