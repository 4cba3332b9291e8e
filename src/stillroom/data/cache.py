"""Where derived data is kept between runs, and how a file is written so that no reader sees half of it."""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import platformdirs

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


def write_atomically(path: Path, write: Callable[[IO[bytes]], None]) -> bool:
    """Write a cache file aside, flush it to disk and move it into place.

    A cache is a convenience, so a full disk or a read-only folder is logged, not raised.

    Args:
        path: the file that shall exist afterwards; its folder is made.
        write: writes the content to the open binary file it is given.

    Returns:
        Whether the file was written.
    """
    aside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            aside = Path(file.name)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        _log.warning("cache %s not written (%s); it will be computed again next time", path, error)
        return False
    finally:
        if aside is not None:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
    return True
