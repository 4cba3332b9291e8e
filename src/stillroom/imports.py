"""Import functions and classes that a user or a file names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from stillroom.errors import InputError, did_you_mean, first_line
from stillroom.files import shown
from stillroom.trust import ADVICE, Origin, UntrustedError

_OURS = ("stillroom.models.", "stillroom.losses.")  # modules that untrusted files may name


def import_callable(module_name: str, path: str, origin: Origin) -> Callable[..., Any]:
    """Import a module and walk to a function or class in it.

    The working directory is appended to the import path if the name may be imported. So a file in the working directory
    is found, and it cannot hide an installed package.

    Args:
        module_name: dotted name of the module.
        path: name of the function or class, may be dotted.
        origin: where the name comes from. From an untrusted file only models and losses of Stillroom are imported.

    Raises:
        UntrustedError: the name comes from a file that is not trusted; nothing was imported.
        InputError: the module cannot be imported, or has no such function.
    """
    spec = f"{module_name}:{path}"
    ours = module_name.startswith(_OURS)
    if not (ours or origin.names):
        raise UntrustedError(
            f"{shown(origin.place)} names {shown(spec)}: {shown(path)} would be imported from the module "
            f"{shown(module_name)} ({shown(where_found(module_name))}), which runs its code. Nothing was imported; "
            f"{ADVICE}"
        )
    if not ours and (here := str(Path.cwd())) not in sys.path:
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
        if not origin.names and not _is_ours(found):  # refuse what our modules import from elsewhere
            raise UntrustedError(f"{shown(origin.place)} names {shown(spec)}, which is not Stillroom's own; {ADVICE}")
    if not callable(found):
        raise InputError(f"{spec} is a {type(found).__name__}, not a function or class")
    function: Callable[..., Any] = found
    return function


def where_found(module_name: str) -> str:
    """Return the file that the import of a module would load, or why there is none. Imports nothing."""
    places: list[str] = [*sys.path, str(Path.cwd())]
    file, name = "", ""
    for part in module_name.split("."):
        name = f"{name}.{part}" if name else part
        found = BuiltinImporter.find_spec(name) or FrozenImporter.find_spec(name) or PathFinder.find_spec(name, places)
        if found is None:
            return "its file was not found"
        file = found.origin or "a folder without __init__.py"
        places = list(found.submodule_search_locations or ())
    return file


def _is_ours(found: object) -> bool:
    home = found.__name__ if isinstance(found, ModuleType) else getattr(found, "__module__", None)
    return isinstance(home, str) and home.startswith("stillroom.")
