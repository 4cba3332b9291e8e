"""Trust: which names may be imported or downloaded. Names in files may be only if the user says so.

Importing a name such as ``helper:make`` runs code. A user who types the name wants that. A run folder, a recipe or a
comparison from elsewhere must not cause it. So every name has an :class:`Origin`, which :mod:`stillroom.imports` and
:mod:`stillroom.models.external` check.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from stillroom.errors import InputError

ADVICE = "add --trust (in Python trust=True) if you know where it comes from"


class UntrustedError(InputError):
    """A file that is not trusted names something that would be imported or downloaded."""


def naming(role: str, error: InputError) -> InputError:
    """Return the same error with the name of the setting in front."""
    kind = UntrustedError if isinstance(error, UntrustedError) else InputError
    return kind(f"{role}: {error}")


class Origin(NamedTuple):
    """Where a name comes from, and what is permitted for it.

    Attributes:
        place: the file or folder that contains it; empty if the user gave it.
        names: whether it may be imported, or looked up on a hub.
        fetch: whether the published weights of a known model may be downloaded.
    """

    place: str
    names: bool
    fetch: bool


TYPED = Origin("", names=True, fetch=True)  # a name from the user's Python code or command line
UNKNOWN = Origin("a file", names=False, fetch=False)


@dataclass(frozen=True)
class Trust:
    """What the user permits in one call; without arguments, nothing.

    Attributes:
        own: the models and methods that the user gave in this call. They may be imported wherever they occur, for
            example in the run folder of a teacher that this call trained.
        files: whether names that occur only in files are permitted too.
        fetch: whether published weights may be downloaded.
        source: the file that contains the names that the user did not give.
    """

    own: frozenset[str] = frozenset()
    files: bool = False
    fetch: bool = False
    source: str = ""

    def of(self, text: str) -> Origin:
        """Return the origin of a model or method."""
        place = "" if text in self.own else self.source or "a file"
        return Origin(place, names=self.files or not place, fetch=self.files or self.fetch)

    def inside(self, folder: Path) -> Trust:
        """Return the permissions for names in a run folder, which may never download anything by themselves."""
        return replace(self, source=str(folder / "config.yaml"), fetch=False)


NOTHING = Trust()


def given(names: Iterable[object], *, files: bool = False, source: str = "") -> Trust:
    """Return the permissions of a call with these models and methods from the user.

    Args:
        names: models, methods and lists of loggers; objects other than text are ignored.
        files: whether the user trusts the files that the call reads.
        source: the file that contains the other names of the call.
    """
    listed = (name if isinstance(name, list | tuple) else (name,) for name in names)
    own = frozenset(name for found in listed for name in found if isinstance(name, str))
    return Trust(own, files=files, fetch=True, source=source)
