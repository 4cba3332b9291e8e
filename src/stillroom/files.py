"""Files that are either whole or not there."""

from __future__ import annotations

import os
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
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
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
    if os.name == "posix":  # the rename itself lives in the folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))
