"""Where derived data is kept between runs."""

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


def keep(path: Path, write: Callable[[IO[bytes]], None]) -> bool:
    """Write a cache file, all or nothing.

    A cache is a convenience, so a full disk or a read-only folder is logged, not raised.

    Args:
        path: the file that shall exist afterwards; its folder is made.
        write: writes the content to the open binary file it is given.

    Returns:
        Whether the file was written.
    """

    def fill(aside: Path) -> None:
        with aside.open("wb") as file:
            write(file)

    try:
        write_atomically(path, fill)
    except OSError as error:
        _log.warning("cache %s not written (%s); it will be computed again next time", path, error)
        return False
    return True
