"""Marks in pages and tables written by Stillroom: files without one are never replaced."""

from __future__ import annotations

from pathlib import Path

from stillroom.errors import InputError
from stillroom.reading import UnreadableError, open_file

PAGE = '<meta name="generator" content="Stillroom">'
# A CSV file has no comments; its first columns are the mark.
TABLES = {".md": "<!-- made by Stillroom -->", ".tex": "% made by Stillroom", ".csv": "teacher,student,method,seed,"}
HEAD_BYTES = 4096


def refuse_foreign(path: Path, mark: str, option: str) -> None:
    """Refuse to replace a file without our mark near its beginning, unless it is empty.

    Args:
        path: of the file that would be written.
        mark: the text in files of ours.
        option: the setting that names another place, as in "--out".

    Raises:
        InputError: the file is somebody else's, or cannot be read.
    """
    try:
        with open_file(path) as file:
            head = file.read(HEAD_BYTES)
    except (FileNotFoundError, NotADirectoryError):  # a wrong folder is reported when the file is written
        return
    except (OSError, UnreadableError) as error:
        why = error.reason if isinstance(error, UnreadableError) else error.strerror
        raise InputError(f"{path} cannot be replaced ({why}); give another file with {option}") from error
    if head and mark.encode() not in head:
        raise InputError(
            f"{path} was not written by Stillroom and is not replaced; move it away or give another file with {option}"
        )
