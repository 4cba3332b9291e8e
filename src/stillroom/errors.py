"""How a run can end other than well: four exceptions, each with one line that says what to do."""

from collections.abc import Sequence


class InputError(ValueError):
    """What the user handed in cannot be used.

    The message is one line that names the argument, its value and the fix. The command line prints it and
    exits with status 2; in Python it is an ordinary ``ValueError``.
    """


class InUse(InputError):  # noqa: N818  nothing is wrong with it but the moment
    """Another process is at work on the run; it is free when that one ends."""


class Diverged(RuntimeError):  # noqa: N818  names what happened to the run
    """A loss became NaN or infinite; the message names step, term and last good checkpoint."""


class Stopped(Exception):  # noqa: N818  no error: the user asked for it
    """The run was stopped on request and can go on.

    Attributes:
        signal_number: what asked for it; the shell convention for the exit status is 128 plus this number.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def did_you_mean(options: Sequence[str], otherwise: str = "") -> str:
    """The end of a message about a name that is not known.

    Args:
        options: the names that look like it, the likeliest first.
        otherwise: what to say where none does.
    """
    return f"; did you mean {' or '.join(options)}?" if options else otherwise


def first_line(error: BaseException) -> str:
    """An error's type and the first line of its message, for a message of one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
