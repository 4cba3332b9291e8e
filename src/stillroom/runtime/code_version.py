"""Which code made a run, found without running anything.

Git is not asked: in a folder that was unpacked from an archive it would run programs that the archive's own
configuration names (``core.fsmonitor``, filters). Its files are read instead, which say which commit is checked out and
not whether files were changed since. For Stillroom's own code the digest says that.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path

from stillroom.errors import InputError
from stillroom.reading import read_text

_MOST = 4096  # bytes of HEAD and the like
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BRANCH = re.compile(r"refs(/[A-Za-z0-9_][A-Za-z0-9_.+@-]*)+")  # no way out of the folder


def source_digest() -> str:
    """Twelve hexadecimal digits that name the code of the installed Stillroom."""
    digest, home = hashlib.sha256(), Path(__file__).parents[1]
    for file in sorted(home.rglob("*.py")):
        digest.update(file.relative_to(home).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def commit_of(folder: Path) -> str | None:
    """The commit that is checked out in the Git repository around a folder, twelve digits; None where there is none.

    Args:
        folder: in the repository; nothing in it is run.
    """
    with suppress(OSError, InputError):
        for place in (folder, *folder.parents):
            git = place / ".git"
            if git.is_file():  # of a worktree or a submodule
                git = place / read_text(git, _MOST).removeprefix("gitdir:").strip()
            if git.is_dir():
                found = _value(git, read_text(git / "HEAD", _MOST).strip())
                return found[:12] if _HASH.fullmatch(found) else None
    return None


def _value(git: Path, head: str) -> str:
    """The commit that HEAD names, itself or by a branch; empty where it is not found."""
    if not head.startswith("ref: "):
        return head
    branch = head.removeprefix("ref: ")
    if not _BRANCH.fullmatch(branch):
        return ""
    common = git / "commondir"
    for folder in (git, *([git / read_text(common, _MOST).strip()] if common.is_file() else [])):
        if (folder / branch).is_file():
            return read_text(folder / branch, _MOST).strip()
        if (folder / "packed-refs").is_file():
            for line in read_text(folder / "packed-refs").splitlines():
                commit, _, name = line.partition(" ")
                if name == branch:
                    return commit
    return ""
