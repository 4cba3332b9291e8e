"""The columns of the tables of probes, by probe: which numbers of a record are shown, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stillroom.report.probe_record import Results


@dataclass(frozen=True)
class ProbeColumn:
    """One column.

    Attributes:
        head: the heading.
        note: what it means, in a sentence.
        value: the number in a run's results; None where there is none. The second argument are the results of the
            reference method's run of the same seed, or of its first; None where there are none.
        text: the number as it is shown.
    """

    head: str
    note: str
    value: Callable[[Results, Results | None], float | None]
    text: Callable[[float], str] = "{:.2f}".format


@dataclass(frozen=True)
class ProbeTable:
    """How the numbers of a probe are shown.

    Attributes:
        caption: of the table; ``{on}`` is the set.
        columns: in order.
    """

    caption: str
    columns: tuple[ProbeColumn, ...]


def number(*path: str, scale: float = 1.0) -> Callable[[Results, Results | None], float | None]:
    """A function that takes a number out of results: ``number("a", "b")`` is ``results["a"]["b"]``, None without it.

    Args:
        path: names, from the outside inward.
        scale: factor.
    """

    def value(results: Results, _: Results | None) -> float | None:
        found: Any = results
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return scale * found if isinstance(found, int | float) else None

    return value


def columns(*rows: Sequence[Any]) -> tuple[ProbeColumn, ...]:
    """Columns from (head, note, value) or (head, note, value, text)."""
    return tuple(ProbeColumn(*row) for row in rows)


# In the order of the page.
PROBE_TABLES: dict[str, ProbeTable] = {
    "calibration": ProbeTable(
        "Calibration on the {on} images",
        columns(
            ("ECE %", "expected calibration error over 15 bins", number("ece")),
            ("NLL", "mean negative log-likelihood of the label, in nats", number("nll"), "{:.3f}".format),
            ("temperature", "that minimises the NLL on one half of the images; above 1: overconfident",
             number("temperature")),
            ("ECE % of the half", "on the other half, without temperature", number("ece_before")),
            ("scaled ECE %", "on the same half, with the temperature", number("ece_after")),
            ("scaled NLL", "on the same half, with the temperature, in nats", number("nll_after"), "{:.3f}".format),
        ),
    ),
}  # fmt: skip
