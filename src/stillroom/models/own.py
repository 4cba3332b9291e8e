"""Models that a user's own function builds: ``package.module:function``."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import nn

from stillroom.errors import InputError
from stillroom.models.output import first_line


def from_function(spec: str, num_classes: int, in_channels: int) -> nn.Module:
    """Import a function and call it for a model.

    The working directory joins the end of the import path, so a file next to the user's data is found and
    none of it hides an installed package.

    Args:
        spec: ``package.module:function``; the function may also be a class or a dotted name inside the
            module.
        num_classes: given as ``num_classes=``.
        in_channels: given as ``in_channels=`` where the signature takes it.

    Returns:
        What the function returned.

    Raises:
        InputError: the module or the function is missing, fails, or returns something other than a module.
    """
    build = _find(spec)
    arguments = {"num_classes": num_classes}
    if _takes(build, "in_channels"):
        arguments["in_channels"] = in_channels
    try:
        model = build(**arguments)
    except Exception as error:
        call = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise InputError(f"{spec} called with {call} fails: {first_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{spec} returned a {type(model).__name__}; it must return a torch.nn.Module")
    return model


def _find(spec: str) -> Callable[..., Any]:
    """Import the module and walk to the function."""
    module_name, _, path = spec.partition(":")
    if not module_name or not path:
        raise InputError(f"{spec!r} is not a model; write package.module:function, timm:NAME or torchvision:NAME")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise InputError(f"the module of {spec} cannot be imported: {first_line(error)}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            close = get_close_matches(part, dir(found), n=3)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise InputError(f"{module_name} has no function {path!r}{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"{spec} is a {type(found).__name__}, not a function that builds a model")
    function: Callable[..., Any] = found
    return function


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
