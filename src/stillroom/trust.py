"""Which names may be imported or fetched: those the user gave, and those in files only where the user says so.

A name such as ``helper:make`` is a program: importing it runs code. A user who types it wants that. A run folder, a
recipe or a comparison that came from somewhere else must not decide it. So every name carries its :class:`Origin`, and
the two doors, :mod:`stillroom.imports` and :mod:`stillroom.models.external`, ask for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from stillroom.errors import InputError

ADVICE = "add --trust (in Python trust=True) if you know where it comes from"


class UntrustedError(InputError):
    """A file names something that would be imported or fetched, and the user did not ask for it."""


def naming(role: str, error: InputError) -> InputError:
    """The same problem with the setting that it belongs to before it."""
    kind = UntrustedError if isinstance(error, UntrustedError) else InputError
    return kind(f"{role}: {error}")


class Origin(NamedTuple):
    """Where a name comes from and what may be done with it.

    Attributes:
        place: the file or folder that holds it; empty where the user gave it.
        names: whether it may be imported, or looked up on a hub.
        fetch: whether the published weights of a known model may be fetched.
    """

    place: str
    names: bool
    fetch: bool


TYPED = Origin("", names=True, fetch=True)  # a name in the user's own Python, or on the command line
UNKNOWN = Origin("a file", names=False, fetch=False)


@dataclass(frozen=True)
class Trust:
    """What the user permitted in one call; without arguments, nothing.

    Attributes:
        own: the models and methods that the user gave in this call. They may be imported wherever they occur, for
            example in the run folder of a teacher that this call trained.
        files: whether names that only files give are permitted too.
        fetch: whether this call asks for published weights.
        source: the file that holds the names which are not the user's own.
    """

    own: frozenset[str] = frozenset()
    files: bool = False
    fetch: bool = False
    source: str = ""

    def of(self, text: str) -> Origin:
        """The origin of a model's or a method's text."""
        place = "" if text in self.own else self.source or "a file"
        return Origin(place, names=self.files or not place, fetch=self.files or self.fetch)

    def inside(self, folder: Path) -> Trust:
        """What is permitted for the names in a run folder: they are never the user's order to fetch anything."""
        return replace(self, source=str(folder / "config.yaml"), fetch=False)


NOTHING = Trust()


def given(names: Iterable[object], *, files: bool = False, source: str = "") -> Trust:
    """What a call permits whose models and methods the user gave.

    Args:
        names: models and methods; what is no text is left out.
        files: whether the user trusts the files that the call reads.
        source: the file that holds the call's other names.
    """
    own = frozenset(name for name in names if isinstance(name, str))
    return Trust(own, files=files, fetch=True, source=source)
