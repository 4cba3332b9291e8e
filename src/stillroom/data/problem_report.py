"""What is wrong with a data set, told in one error instead of one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stillroom.errors import InputError
from stillroom.files import first_few, shown


class ProblemReport:
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


def check_broken(broken: Sequence[str], total: int, skip_broken: float, reasons: Sequence[str] = ()) -> None:
    """Refuse a set with more unreadable images than allowed.

    Args:
        broken: paths or rows of the unreadable images.
        total: how many images there are, the broken ones among them.
        skip_broken: the share of broken ones to put up with, in [0, 1].
        reasons: why each cannot be read, for the message.

    Raises:
        InputError: more than that share is broken.
    """
    if len(broken) <= skip_broken * total:
        return
    told = [f"{shown(name)} ({reason})" for name, reason in zip(broken, reasons, strict=True)] if reasons else broken
    skip = f", or skip them with skip_broken={len(broken) / total + 0.0005:.3f}" if 2 * len(broken) <= total else ""
    raise InputError(f"{len(broken)} of {total} images cannot be read: {first_few(told)}; repair or remove them{skip}")
