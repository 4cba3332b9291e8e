"""Models that belong to somebody else leave as they came, but for what they learned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def borrowed(*models: nn.Module | None) -> Iterator[None]:
    """Put models back as they were, however the block ends; the values of their tensors stay.

    Put back are the device and the memory layout of each tensor, whether it wants a gradient (there is none left), each
    module's mode, hooks, and a batch norm's momentum.

    Args:
        models: None is left out.
    """
    kept = [_Kept(model) for model in models if model is not None]
    try:
        yield
    finally:
        for one in kept:
            one.give_back()


class _Kept:
    """How a model came."""

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

    def give_back(self) -> None:
        devices = {device for device, *_ in self.tensors.values()}
        if len(devices) == 1:
            self.model.to(devices.pop())
        for (place, name), (device, stride, wants_gradient) in self.tensors.items():
            module = self.modules[place]
            value = _tensors(module).get(name)
            if value is None:
                continue
            laid = _laid(value.detach(), device, stride)
            if isinstance(value, nn.Parameter):
                value.grad = None
                value.data = laid
                value.requires_grad_(wants_gradient)
            elif laid is not value:
                module._buffers[name] = laid
        for module, mode, hooks, momentum in zip(self.modules, self.modes, self.hooks, self.momenta, strict=True):
            module.training = mode
            if getattr(module, "momentum", None) != momentum:
                module.momentum = momentum  # type: ignore[assignment]
            for name, there in _hooks(module).items():
                for key in there.keys() - hooks[name]:
                    del there[key]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's own parameters and buffers; a TorchScript module's are in no common dictionary."""
    held = [*module._parameters.items(), *module._buffers.items()]
    return {name: value for name, value in held if value is not None}


def _hooks(module: nn.Module) -> dict[str, dict[Any, Any]]:
    """A module's own hooks, by their kind."""
    return {name: value for name, value in vars(module).items() if name.endswith("_hooks") and isinstance(value, dict)}


def _laid(value: Tensor, device: torch.device, stride: tuple[int, ...]) -> Tensor:
    """A tensor on a device in a layout; itself where it is so already, or where the layout repeats elements."""
    value = value.to(device)
    if value.stride() == stride or 0 in stride:
        return value
    return torch.empty_strided(value.shape, stride, dtype=value.dtype, device=device).copy_(value)
