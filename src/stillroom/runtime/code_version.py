"""Code version: a digest of Stillroom's source and the Git commit of a folder.

The ``git`` program is not run: in a folder unpacked from an archive it would start programs that the archive's own
configuration names (``core.fsmonitor``, filters). Git's files are read instead. They give the commit that is checked
out, but not whether files were changed since. For Stillroom's own code the digest shows such changes.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path

from stillroom.errors import InputError
from stillroom.reading import read_text

_MOST = 4096  # bytes of HEAD and similar files
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BRANCH = re.compile(r"refs(/[A-Za-z0-9_][A-Za-z0-9_.+@-]*)+")  # no "..": a branch cannot point outside the folder


def source_digest() -> str:
    """Digest of the installed Stillroom's source, twelve hexadecimal digits."""
    digest, home = hashlib.sha256(), Path(__file__).parents[1]
    for file in sorted(home.rglob("*.py")):
        digest.update(file.relative_to(home).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def commit_of(folder: Path) -> str | None:
    """Commit checked out in the Git repository that contains a folder, twelve digits; None without a repository.

    Args:
        folder: any folder; no program in it is run.
    """
    with suppress(OSError, InputError):
        for place in (folder, *folder.parents):
            git = place / ".git"
            if git.is_file():  # in a worktree or a submodule
                git = place / read_text(git, _MOST).removeprefix("gitdir:").strip()
            if git.is_dir():
                found = _value(git, read_text(git / "HEAD", _MOST).strip())
                return found[:12] if _HASH.fullmatch(found) else None
    return None


def _value(git: Path, head: str) -> str:
    """The commit that HEAD names directly or through a branch; empty if it is not found."""
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
