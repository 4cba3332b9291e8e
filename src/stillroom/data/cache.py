"""Cache folder for derived data, and how cache files are written."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

import platformdirs

from stillroom.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)


def cache_folder(override: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder for derived data, which need not exist yet.

    Args:
        override: a folder to use instead; otherwise ``$STILLROOM_CACHE``, otherwise the user's cache folder.
    """
    chosen = override or os.environ.get("STILLROOM_CACHE") or platformdirs.user_cache_dir("stillroom")
    return Path(chosen)


def write_cache(path: Path, write: Callable[[IO[bytes]], None]) -> bool:
    """Write a cache file atomically.

    A full disk or a read-only folder is logged, not raised: the run can go on without the cache.

    Args:
        path: the file; its folder is created.
        write: receives the open binary file and writes the content.

    Returns:
        Whether the file was written.
    """

    def fill(aside: Path) -> None:
        with aside.open("wb") as file:
            write(file)

    try:
        write_atomically(path, fill)
    except OSError as error:
        _log.warning("cache %s not written (%s); it will be computed again", path, error)
        return False
    return True
