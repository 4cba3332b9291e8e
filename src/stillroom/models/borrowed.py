"""Restoring a caller's models after a run: device, memory layout, gradients, mode and hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def borrowed(*models: nn.Module | None) -> Iterator[None]:
    """Restore models when the block ends, also after an error; the values of their tensors are kept.

    Restored are each tensor's device, memory layout and ``requires_grad``, each module's training flag and hooks, and
    a batch norm's momentum. Gradients are dropped.

    Args:
        models: None is ignored.
    """
    states = [_ModelState(model) for model in models if model is not None]
    try:
        yield
    finally:
        for state in states:
            state.restore()


class _ModelState:
    """State of a model to restore."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = list(model.modules())
        self.modes = [module.training for module in self.modules]
        self.hooks = [{name: set(hooks) for name, hooks in _hooks(module).items()} for module in self.modules]
        self.momenta = [getattr(module, "momentum", None) for module in self.modules]
        self.tensors = {
            (place, name): (value.device, value.stride(), value.requires_grad)
            for place, module in enumerate(self.modules)
            for name, value in _tensors(module).items()
        }

    def restore(self) -> None:
        devices = {device for device, *_ in self.tensors.values()}
        if len(devices) == 1:
            self.model.to(devices.pop())
        for (place, name), (device, stride, requires_grad) in self.tensors.items():
            module = self.modules[place]
            value = _tensors(module).get(name)
            if value is None:
                continue
            restored = _with_layout(value.detach(), device, stride)
            if isinstance(value, nn.Parameter):
                value.grad = None
                value.data = restored
                value.requires_grad_(requires_grad)
            elif restored is not value:
                module._buffers[name] = restored
        for module, mode, hooks, momentum in zip(self.modules, self.modes, self.hooks, self.momenta, strict=True):
            module.training = mode
            if getattr(module, "momentum", None) != momentum:
                module.momentum = momentum  # type: ignore[assignment]
            for name, current in _hooks(module).items():
                for key in current.keys() - hooks[name]:
                    del current[key]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's own parameters and buffers; a TorchScript module keeps them in separate dictionaries."""
    held = [*module._parameters.items(), *module._buffers.items()]
    return {name: value for name, value in held if value is not None}


def _hooks(module: nn.Module) -> dict[str, dict[Any, Any]]:
    """A module's own hooks, by kind."""
    return {name: value for name, value in vars(module).items() if name.endswith("_hooks") and isinstance(value, dict)}


def _with_layout(value: Tensor, device: torch.device, stride: tuple[int, ...]) -> Tensor:
    """A tensor on a device with these strides; unchanged if it has them, or if a stride is 0 (expanded)."""
    value = value.to(device)
    if value.stride() == stride or 0 in stride:
        return value
    return torch.empty_strided(value.shape, stride, dtype=value.dtype, device=device).copy_(value)
