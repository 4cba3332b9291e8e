"""Report all problems of a data set, broken images among them, in one error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stillroom.errors import InputError
from stillroom.files import first_few, shown


class ProblemReport:
    """Collects messages about problems of a set and raises them together.

    Args:
        where: the folder or file, for the message.
        problems: problems that are known already.
    """

    def __init__(self, where: str, problems: Sequence[str] = ()) -> None:
        self.where = where
        self.problems = list(problems)

    def add(self, problem: str) -> None:
        """Add a message; an empty one is ignored."""
        if problem:
            self.problems.append(problem)

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Add the message of an InputError that the block raises, and continue after the block."""
        try:
            yield
        except InputError as error:
            self.add(str(error))

    def close(self) -> None:
        """Raise the collected problems, if any.

        Raises:
            InputError: there are problems; the message is one line with all of them.
        """
        if len(self.problems) == 1:
            (only,) = self.problems
            raise InputError(only if self.where in only else f"{shown(self.where)}: {only}")
        if self.problems:
            told = "; ".join(f"({number}) {problem}" for number, problem in enumerate(self.problems, start=1))
            raise InputError(f"{shown(self.where)} has {len(self.problems)} problems: {told}")


def check_broken(broken: Sequence[str], total: int, skip_broken: float, reasons: Sequence[str] = ()) -> None:
    """Refuse a set with more unreadable images than allowed.

    Args:
        broken: paths or rows of the unreadable images.
        total: number of all images, with the broken ones.
        skip_broken: tolerated fraction of broken images, in [0, 1].
        reasons: why each image cannot be read, for the message.

    Raises:
        InputError: more than that fraction is broken.
    """
    if len(broken) <= skip_broken * total:
        return
    told = [f"{shown(name)} ({reason})" for name, reason in zip(broken, reasons, strict=True)] if reasons else broken
    skip = f", or skip them with skip_broken={len(broken) / total + 0.0005:.3f}" if 2 * len(broken) <= total else ""
    raise InputError(f"{len(broken)} of {total} images cannot be read: {first_few(told)}; repair or remove them{skip}")
