"""Importing what a user names: a function or a class in a module of their own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from stillroom.errors import InputError, did_you_mean, first_line


def import_callable(module_name: str, path: str) -> Callable[..., Any]:
    """Import a module and walk to a function or class in it.

    The working directory joins the end of the import path, so a file next to the user's data is found and
    none of it hides an installed package.

    Args:
        module_name: dotted name of the module.
        path: name of the function or class, perhaps dotted.

    Raises:
        InputError: the module cannot be imported, or has no such function.
    """
    spec = f"{module_name}:{path}"
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise InputError(f"the module of {spec} cannot be imported: {first_line(error)}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            hint = did_you_mean(get_close_matches(part, dir(found)))
            raise InputError(f"{module_name} has no function {path!r}{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"{spec} is a {type(found).__name__}, not a function or class")
    function: Callable[..., Any] = found
    return function
