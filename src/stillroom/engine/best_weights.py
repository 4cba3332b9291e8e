"""Weights of the best epoch, kept consistent with the checkpoint.

Two files cannot be replaced in one atomic step. A better epoch's weights are therefore written to a second file first.
The checkpoint records their digest, and once it is complete the second file replaces the first. A resumed run finds the
weights of its checkpoint in one of the two files. Weights of an epoch that no checkpoint contains are removed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import nn

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.runtime.reporters import Reporter


def write_candidate(run: RunFolder, student: nn.Module) -> str:
    """Write the weights of a better epoch to a second file.

    Returns:
        Their digest, for the next checkpoint.
    """
    run.write_candidate(student)
    return _digest(run.candidate)


def put_in_place(run: RunFolder) -> None:
    """Replace the best weights by those of the second file, after the checkpoint with their digest was written."""
    if run.candidate.exists():
        run.candidate.replace(run.best)


def find_again(run: RunFolder, digest: str, reporter: Reporter, *, needed: bool) -> None:
    """Restore the weights whose digest a checkpoint records, and remove any others.

    Args:
        run: the run of the checkpoint.
        digest: SHA-256 of the weights file; empty if no epoch was finished.
        reporter: receives a warning if they are missing.
        needed: whether the run exports these weights.

    Raises:
        InputError: they are missing and needed.
    """
    if digest and _digest(run.candidate) == digest:
        run.candidate.replace(run.best)
    run.candidate.unlink(missing_ok=True)
    if _digest(run.best) == digest:
        return
    lost = f"{run.best} does not belong to the checkpoint {run.last.name} beside it"
    if digest and needed:
        raise InputError(
            f"{lost}: export=best needs the weights of that checkpoint. Restore the file, or delete "
            f"{run.last} to start this run again"
        )
    if digest:
        reporter.say(f"warning: {lost} and is removed: the weights of the best epoch so far are lost")
    run.best.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    """SHA-256 of a file's content; empty if the file does not exist."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
