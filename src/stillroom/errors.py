"""Exceptions that end a run, and parts of error messages."""

from collections.abc import Sequence


class InputError(ValueError):
    """A user's input cannot be used.

    The message is one line that names the argument, its value and the fix. The command line prints it and
    exits with status 2; in Python it is an ordinary ``ValueError``.
    """


class InUse(InputError):  # noqa: N818  a state, not an error of the input
    """Another process is using the run folder; try again when it has ended."""


class Diverged(RuntimeError):  # noqa: N818  the field's word
    """A loss became NaN or infinite; the message names step, term and last good checkpoint."""


class WorkerDied(RuntimeError):  # noqa: N818  what happened, in the message's words
    """A process that helps a run died, for example for want of memory; the run can be resumed."""


class Stopped(Exception):  # noqa: N818  requested by the user, not an error
    """The run was stopped on request and can be resumed.

    Attributes:
        signal_number: the signal; by convention the exit status is 128 plus this number.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def did_you_mean(options: Sequence[str], otherwise: str = "") -> str:
    """Return the end of a message about an unknown name.

    Args:
        options: similar names, the most similar first.
        otherwise: the text if there are none.
    """
    return f"; did you mean {' or '.join(options)}?" if options else otherwise


def first_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
