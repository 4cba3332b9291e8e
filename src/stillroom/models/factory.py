"""Build a model with a user's function, ``package.module:function``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from stillroom.errors import InputError, first_line
from stillroom.imports import import_callable
from stillroom.trust import Origin


def from_function(spec: str, num_classes: int | None, in_channels: int, origin: Origin) -> nn.Module:
    """Import a function and call it to build a model.

    Args:
        spec: ``package.module:function``; the function may also be a class or a dotted name inside the
            module.
        num_classes: given as ``num_classes=``; None calls the function without it, so that its default holds. 0, for a
            model without a classifier, is given only if the signature accepts it.
        in_channels: given as ``in_channels=`` if the signature accepts it.
        origin: where the name comes from; one in a file that is not trusted is not imported.

    Returns:
        The model that the function returns.

    Raises:
        InputError: the module or the function is missing, fails, or returns something other than a module.
    """
    module_name, _, path = spec.partition(":")
    if not module_name or not path:
        raise InputError(f"{spec!r} is not a model; write package.module:function, timm:NAME or torchvision:NAME")
    build = import_callable(module_name, path, origin)
    given = num_classes is not None and (num_classes > 0 or _takes(build, "num_classes"))
    arguments = {"num_classes": num_classes} if given else {}
    if _takes(build, "in_channels"):
        arguments["in_channels"] = in_channels
    try:
        model = build(**arguments)
    except Exception as error:
        call = ", ".join(f"{key}={value}" for key, value in arguments.items()) or "no arguments"
        raise InputError(f"{spec} called with {call} fails: {first_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{spec} returned a {type(model).__name__}; it must return a torch.nn.Module")
    return model


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function can be called with this keyword; one without a readable signature cannot."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return True
    found = parameters.get(name)
    return found is not None and found.kind is not inspect.Parameter.POSITIONAL_ONLY
