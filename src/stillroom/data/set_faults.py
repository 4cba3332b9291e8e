"""What is wrong with a data set, told in one error instead of one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stillroom.errors import InputError
from stillroom.files import shown


class Report:
    """Gathers complaints about a set and raises them together.

    Args:
        where: the folder or file, for the message.
        complaints: what is known already.
    """

    def __init__(self, where: str, complaints: Sequence[str] = ()) -> None:
        self.where = where
        self.complaints = list(complaints)

    def add(self, complaint: str) -> None:
        """Note a complaint; an empty one is none."""
        if complaint:
            self.complaints.append(complaint)

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Note an InputError raised inside and go on after the block."""
        try:
            yield
        except InputError as error:
            self.add(str(error))

    def close(self) -> None:
        """End the report.

        Raises:
            InputError: there was a complaint; the message, one line, holds all of them.
        """
        if len(self.complaints) == 1:
            (only,) = self.complaints
            raise InputError(only if self.where in only else f"{shown(self.where)}: {only}")
        if self.complaints:
            told = "; ".join(f"({number}) {complaint}" for number, complaint in enumerate(self.complaints, start=1))
            raise InputError(f"{shown(self.where)} has {len(self.complaints)} problems: {told}")
