"""Files that are either whole or not there, and their names as messages show them."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file aside, bring it to the disk, then put it in place in one step.

    Whatever goes wrong, what stood at ``path`` before stays whole and nothing is left beside it.

    Args:
        path: the final place; its folder is made where it is missing.
        write: receives the temporary path and writes it.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Random, because threads and machines that share a folder also share process ids.
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        aside.touch()
        mode = aside.stat().st_mode  # as the user's umask has it; some writers make private files
        write(aside)
        aside.chmod(mode)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk. The file is in place by then, so a file system that cannot do this is no failure."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def shown(name: object, longest: int = 200) -> str:
    """Return a name as it can stand in a message of one line.

    Line breaks, control characters and bytes that are no text are escaped; what is too long is cut in the middle.

    Args:
        name: a path or any other name.
        longest: most characters to show.
    """
    text = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(name))
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"
