"""Suggest existing paths for a path that does not exist."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from stillroom.errors import did_you_mean
from stillroom.files import first_few, shown


def suggest_path(path: str | Path, fits: Callable[[Path], bool]) -> str:
    """Return the end of a message about a missing path: similar paths, or what the folder contains.

    Args:
        path: the path.
        fits: whether another path can be suggested.

    Returns:
        For example "; did you mean runs/teacher?", "; runs holds a, b" or "; runs does not exist either".
    """
    path = Path(path)
    above = next((folder for folder in path.parents if folder.is_dir()), None)
    if above is None:
        return ""
    name, *rest = path.relative_to(above).parts
    names: list[str] = []
    with suppress(OSError):
        children = sorted(child for child in above.iterdir() if not child.name.startswith("."))
        names = [child.name for child in children if fits(child.joinpath(*rest))]
    close = [shown(above.joinpath(match, *rest)) for match in get_close_matches(name, names, n=2)]
    where = "this folder" if above == Path() else shown(above)
    if rest:
        otherwise = f"; {shown(above / name)} does not exist either"
    else:
        otherwise = f"; {where} holds {first_few(names)}" if names else f"; {where} holds none"
    return did_you_mean(close, otherwise)
