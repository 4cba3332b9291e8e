"""Files that are either whole or not there, and their names as messages show them."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from stillroom.errors import InputError
from stillroom.formatting import size_in_words

ABANDONED_SECONDS = 3600  # what nobody wrote to for so long was left by a killed process, here or elsewhere
_SHOWN = 3
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ASIDE = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file aside, bring it to the disk, then put it in place in one step.

    Whatever goes wrong, what stood at ``path`` before stays whole and nothing is left beside it.

    Args:
        path: the final place; its folder is made where it is missing.
        write: receives the temporary path and writes it.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    make_folder(path.parent)
    # Random, because threads and machines that share a folder also share process ids.
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        aside.touch()
        mode = aside.stat().st_mode  # as the user's umask has it; some writers make private files
        write(aside)
        aside.chmod(mode)
        with aside.open("rb+") as file:  # Windows syncs only what is open for writing
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, and bring their names to the disk.

    Raises:
        OSError: one of them cannot be made.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        _sync_folder(folder.parent)


def is_aside(name: str) -> bool:
    """Whether a file's name is one that :func:`write_atomically` gives what it has not yet put in place."""
    return _ASIDE.fullmatch(name) is not None


def remove_half_written(files: Iterable[Path], older_than: float | None = ABANDONED_SECONDS) -> None:
    """Remove what killed processes wrote aside, and no other file.

    Args:
        files: where to look; what cannot be removed stays.
        older_than: seconds for which nobody wrote to it; None where nobody else can be at work.
    """
    for file in files:
        if not is_aside(file.name):
            continue
        with suppress(OSError):
            if older_than is None or time.time() - file.stat().st_mtime > older_than:
                file.unlink()


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk. The file is in place by then, so a file system that cannot do this is no failure."""
    if os.name != "posix":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def require_text(name: str, value: object) -> None:
    """Refuse a name or path with bytes that are no text: it can stand neither in a record nor in a message.

    Args:
        name: what it was given for.
        value: the name or path; anything else passes.

    Raises:
        InputError: naming both.
    """
    try:
        os.fspath(value).encode() if isinstance(value, (str, os.PathLike)) else None
    except UnicodeEncodeError:
        raise InputError(
            f"{name}={shown(value)} holds bytes that are not UTF-8 text; rename the folder or file"
        ) from None


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


def first_few(names: Sequence[str]) -> str:
    """Return the first few of some names, each fit to be printed, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(shown(name) for name in names[:_SHOWN]) + more


def unwritten(path: Path, error: OSError, needed: int) -> InputError:
    """Explain why one of a run's files could not be written.

    Args:
        path: the file.
        error: what the system said.
        needed: bytes of the whole file.
    """
    fix = "make room" if error.errno in _FULL else "make its folder writable"
    return InputError(
        f"{path} could not be written ({error.strerror or error}): it needs {size_in_words(needed, up=True)}, "
        f"{size_in_words(shutil.disk_usage(path.parent).free)} are free there. What was saved before is whole: {fix} "
        "and run the same command again"
    )
