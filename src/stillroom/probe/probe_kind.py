"""Probe: the protocol of one kind of measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from stillroom.probe.probe_options import ProbeOptions
from stillroom.probe.subject import Subject


@dataclass(frozen=True)
class Measurement:
    """One set of numbers about a network.

    Attributes:
        on: the name under which they are recorded: of the set, or of the protocol.
        measure: computes them: finite numbers, texts, None, and lists and mappings of these, by name.
        settings: plain values that decide the numbers beside the network and its validation images, such as the
            fingerprint of another set. Numbers that were recorded with equal settings are not computed again.
    """

    on: str
    measure: Callable[[], Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)


class Probe(Protocol):
    """One kind of measurement.

    Attributes:
        version: raised when the same settings give other numbers, so that recorded ones are computed again.
        students_only: whether it says nothing about a teacher.
    """

    version: int
    students_only: bool

    def check(self, options: ProbeOptions) -> None:
        """Refuse settings that cannot work, before anything is loaded.

        Raises:
            InputError: naming the setting, its value and the fix.
        """

    def measurements(self, subject: Subject) -> Iterable[Measurement]:
        """What is to be measured of a network. Other sets are loaded here, so that bad ones are refused at once.

        Raises:
            InputError: it cannot be measured.
        """
