"""The weights of the best epoch, which belong to one checkpoint.

Two files cannot be put in place at once. So a better epoch's weights lie aside until the checkpoint that names them, by
their digest, is whole; whoever goes on from a checkpoint finds its weights in one place or the other. An epoch that was
trained but not saved, and comes out otherwise when it is trained again, leaves nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import nn

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.runtime.reporters import Reporter


def write_candidate(run: RunFolder, student: nn.Module) -> str:
    """Write the weights of a better epoch aside.

    Returns:
        Their digest, for the next checkpoint.
    """
    run.write_candidate(student)
    return _digest(run.candidate)


def put_in_place(run: RunFolder) -> None:
    """Make the weights that lie aside the best ones; the checkpoint on disk names them."""
    if run.candidate.exists():
        run.candidate.replace(run.best)


def find_again(run: RunFolder, digest: str, reporter: Reporter, *, needed: bool) -> None:
    """Bring back the weights that a checkpoint names, and remove any others.

    Args:
        run: whose checkpoint it is.
        digest: of the weights; empty if no epoch was finished.
        reporter: told if they are lost.
        needed: whether the run cannot end without them.

    Raises:
        InputError: they are lost and needed.
    """
    if digest and _digest(run.candidate) == digest:
        run.candidate.replace(run.best)
    run.candidate.unlink(missing_ok=True)
    if _digest(run.best) == digest:
        return
    lost = f"{run.best} does not belong to the checkpoint {run.last.name} beside it"
    if digest and needed:
        raise InputError(
            f"{lost}: with export=best the run cannot end without the weights that do. Bring them back, or delete "
            f"{run.last} to begin anew"
        )
    if digest:
        reporter.say(f"warning: {lost} and is removed: the weights of the best epoch so far are lost")
    run.best.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    """Of a file's content; empty where there is no file."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
