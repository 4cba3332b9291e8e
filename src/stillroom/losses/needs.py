"""What a loss asks for, read from the parameter names of its methods."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn


def needs_of(loss: nn.Module) -> tuple[str, ...]:
    """The names of what a loss's ``forward`` takes, in order.

    In the training loop every floating tensor that comes under these names is float32, whatever the networks compute
    in. A wrapper that passes things on to the loss inside it says so in an attribute ``needs``; everything else is read
    from the signature.

    Example:
        >>> from stillroom.losses import KD
        >>> needs_of(KD())
        ('student_logits', 'teacher_logits')
    """
    declared = getattr(loss, "needs", None)
    return tuple(declared) if declared is not None else _parameters(loss.forward)


def connect_needs_of(loss: nn.Module) -> tuple[str, ...]:
    """The names of what a loss's ``connect`` takes; nothing for a loss without one.

    ``connect`` is called once with examples, before training, and builds what depends on their shapes.
    """
    connect = getattr(loss, "connect", None)
    return () if connect is None else _parameters(connect)


def settings_of(loss: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """The settings a loss's class takes, by name; a class without any takes none, whatever ``nn.Module`` takes.

    Example:
        >>> from stillroom.losses import DKD
        >>> list(settings_of(DKD))
        ['alpha', 'beta', 'temperature']
    """
    collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(loss).parameters
    return {name: parameter for name, parameter in parameters.items() if parameter.kind not in collecting}


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)
