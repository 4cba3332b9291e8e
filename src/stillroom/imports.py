"""The one door through which a function or a class that somebody names is imported."""

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

_OURS = ("stillroom.models.", "stillroom.losses.")  # what files may name without being trusted


def import_callable(module_name: str, path: str, origin: Origin) -> Callable[..., Any]:
    """Import a module and walk to a function or class in it.

    The working directory joins the end of the import path where the name may be imported, so a file next to the
    user's data is found and none of it hides an installed package.

    Args:
        module_name: dotted name of the module.
        path: name of the function or class, perhaps dotted.
        origin: where the name comes from. One that may not be imported is refused, except for the models and losses of
            Stillroom itself.

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
        if not origin.names and not _is_ours(found):  # what our modules import is not theirs to give away
            raise UntrustedError(f"{shown(origin.place)} names {shown(spec)}, which is not Stillroom's own; {ADVICE}")
    if not callable(found):
        raise InputError(f"{spec} is a {type(found).__name__}, not a function or class")
    function: Callable[..., Any] = found
    return function


def where_found(module_name: str) -> str:
    """Where the import of a module would find it: a file, or words that say why there is none. Imports nothing."""
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
