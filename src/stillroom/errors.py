"""The one error a user's own input can cause."""


class InputError(ValueError):
    """What the user handed in cannot be used.

    The message is one line that names the argument, its value and the fix. The command line prints it and
    exits with status 2; in Python it is an ordinary ``ValueError``.
    """
