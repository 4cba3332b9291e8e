"""The mark by which a page or a table is known as ours, so that none that somebody else wrote is replaced."""

from __future__ import annotations

from pathlib import Path

from stillroom.errors import InputError
from stillroom.reading import UnreadableError, open_file

PAGE = '<meta name="generator" content="Stillroom">'
# A table of numbers has no room for remarks; its first columns are mark enough.
TABLES = {".md": "<!-- made by Stillroom -->", ".tex": "% made by Stillroom", ".csv": "teacher,student,method,seed,"}
HEAD_BYTES = 4096


def refuse_foreign(path: Path, mark: str, option: str) -> None:
    """Refuse to replace a file that does not carry our mark near its beginning; an empty or missing one is free.

    Args:
        path: of the file that would be written.
        mark: what ours hold.
        option: the setting that names another place, as in "--out".

    Raises:
        InputError: the file is somebody else's, or cannot be read.
    """
    try:
        with open_file(path) as file:
            head = file.read(HEAD_BYTES)
    except (FileNotFoundError, NotADirectoryError):  # what is wrong with its folder shows when it is written
        return
    except (OSError, UnreadableError) as error:
        why = error.reason if isinstance(error, UnreadableError) else error.strerror
        raise InputError(f"{path} cannot be replaced ({why}); give another file with {option}") from error
    if head and mark.encode() not in head:
        raise InputError(
            f"{path} was not written by Stillroom and is not replaced; move it away or give another file with {option}"
        )
