"""Carry out the runs of a comparison or a tuning, until all are done or a stop is requested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from stillroom.compare.live_board import Board
from stillroom.compare.plan import Plan
from stillroom.compare.schedule import Schedule
from stillroom.compare.workers import Staff
from stillroom.errors import InputError, Stopped
from stillroom.runtime.folder_lock import locked
from stillroom.runtime.signals import StopRequest


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Acquire an exclusive lock on a folder, which is created where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be created ({error.strerror}); choose another runs= folder") from error
    try:
        with locked(folder / ".lock"):
            yield
    finally:
        with suppress(OSError):
            folder.rmdir()  # succeeds only if it is empty


def carry_out(plan: Plan, staff: Staff, stop: StopRequest, board: Board, retries: int) -> dict[str, str]:
    """Train every cell of a plan that has no result yet; the workers are ended and the board is closed.

    Args:
        plan: the runs.
        staff: the workers.
        stop: set by a signal.
        board: shows the progress.
        retries: how often a failed run is repeated.

    Returns:
        Failed cells by name, each with its problem in one line.

    Raises:
        Stopped: a stop was requested; the message says what is saved.
    """
    schedule = Schedule(plan, staff.workers, count=staff.count, threads=staff.threads, retries=retries, board=board)
    try:
        failed = schedule.run(stop)
        if stop.signal_number:
            board.say("stopping: running cells save their state")
            staff.workers.finish_saving()
            raise stopped_in(plan.folder, stop, schedule.unsaved())
        return failed
    finally:
        staff.workers.stop()
        board.close()


def stopped_in(folder: Path, stop: StopRequest, unsaved: Sequence[str] = ()) -> Stopped:
    """The message on what is saved after a stop.

    Args:
        folder: of the comparison.
        stop: the request.
        unsaved: the runs that could not save themselves.
    """
    said = f"stopped; everything is saved in {folder}. The same command continues from there"
    if unsaved:
        names = ", ".join(unsaved)
        said = (
            f"stopped; not saved in time: {names}. These resume from their last checkpoints; everything else "
            f"is saved in {folder}. The same command continues from there"
        )
    return Stopped(said, stop.signal_number)
