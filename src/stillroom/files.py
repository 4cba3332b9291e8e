"""Write files atomically, and show file names in messages."""

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

ABANDONED_SECONDS = 3600  # a temporary file that is older was left by a killed process
_SHOWN = 3
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ASIDE = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a temporary file beside ``path``, sync it to the disk, and rename it.

    If anything fails, an earlier file at ``path`` is unchanged and no temporary file is left.

    Args:
        path: the file; its folder is created if it is missing.
        write: receives the temporary path and writes it.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    make_folder(path.parent)
    # Random: threads, or machines that share a folder, can have the same process id.
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        aside.touch()
        mode = aside.stat().st_mode  # follows the user's umask; some writers create private files
        write(aside)
        aside.chmod(mode)
        with aside.open("rb+") as file:  # Windows syncs only files that are open for writing
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Create a folder with its missing parents, and sync them to the disk.

    Raises:
        OSError: a folder cannot be created.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        _sync_folder(folder.parent)


def is_temporary(name: str) -> bool:
    """Whether a file name is that of a temporary file of :func:`write_atomically`."""
    return _ASIDE.fullmatch(name) is not None


def remove_temporary_files(files: Iterable[Path], older_than: float | None = ABANDONED_SECONDS) -> None:
    """Remove temporary files that killed processes left, and no other file.

    Args:
        files: the files to look at; those that cannot be removed stay.
        older_than: seconds since the last write; None if no other process can be writing.
    """
    for file in files:
        if not is_temporary(file.name):
            continue
        with suppress(OSError):
            if older_than is None or time.time() - file.stat().st_mtime > older_than:
                file.unlink()


def _sync_folder(folder: Path) -> None:
    """Sync a rename to the disk, where the file system supports it; the file is in place already."""
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
    """Refuse a name or path that is not UTF-8 text: it cannot be recorded or printed.

    Args:
        name: the argument.
        value: the name or path; other types pass.

    Raises:
        InputError: the value is not UTF-8 text.
    """
    try:
        os.fspath(value).encode() if isinstance(value, (str, os.PathLike)) else None
    except UnicodeEncodeError:
        raise InputError(
            f"{name}={shown(value)} holds bytes that are not UTF-8 text; rename the folder or file"
        ) from None


def shown(name: object, longest: int = 200) -> str:
    """Return a name in a form that can be printed on one line.

    Line breaks, control characters and bytes that are not text are escaped. Long names are shortened in the middle.

    Args:
        name: a path or any other name.
        longest: maximum number of characters.
    """
    text = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(name))
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def first_few(names: Sequence[str]) -> str:
    """Return the first few names, in printable form, and the number of the others."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(shown(name) for name in names[:_SHOWN]) + more


def write_failure(path: Path, error: OSError, needed: int) -> InputError:
    """Return the error for a file of a run that could not be written.

    Args:
        path: the file.
        error: the system's error.
        needed: bytes of the file.
    """
    fix = "make room" if error.errno in _FULL else "make its folder writable"
    return InputError(
        f"{path} could not be written ({error.strerror or error}): it needs {size_in_words(needed, up=True)}, "
        f"{size_in_words(shutil.disk_usage(path.parent).free)} are free there. What was saved before is intact: {fix} "
        "and run the same command again"
    )
