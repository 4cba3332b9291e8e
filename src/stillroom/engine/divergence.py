"""Whether what is about to be saved consists of numbers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Health:
    """Looks for NaN and infinite values in all that training changes.

    What holds such values from the start, as a mask may, is left alone.

    Args:
        student: its parameters and buffers.
        method: those of connectors and memories.
        optimizer: its state of each parameter.
    """

    def __init__(self, student: nn.Module, method: nn.Module, optimizer: Optimizer) -> None:
        self._modules = {"student": student, "method": method}
        self._optimizer = optimizer
        self._from_start = {name for name, value in self._state() if not bool(value.isfinite().all())}

    def trouble(self) -> str:
        """The first value that is not finite, in words; nothing where all are."""
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
                    # On the device of the others, where a step count need not be.
                    yield f"optimizer's {name} of {names.get(id(parameter), 'a parameter')}", value.to(parameter.device)
