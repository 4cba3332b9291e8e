"""The tables of probes, for the terminal and the page: one for each probe and set, a row for each method."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.report.aggregate import Pair, PlacedRun
from stillroom.report.page_tables import Entry, Heading, PageTable, TableRow
from stillroom.report.probe_columns import PROBE_TABLES, ProbeColumn
from stillroom.report.probe_record import ProbeRecord, Results, read_probes, student_record, teacher_record


@dataclass(frozen=True)
class PairProbes:
    """The records of one pair.

    Attributes:
        teacher: of the teacher; empty without any.
        students: of each run that has a record.
        notes: why a record is missing although there is a file.
    """

    teacher: ProbeRecord
    students: tuple[tuple[PlacedRun, ProbeRecord], ...]
    notes: tuple[str, ...] = ()

    def results(self, probe: str, on: str) -> dict[str, dict[int, Results]]:
        """Method -> seed -> numbers of a probe on a set."""
        found: dict[str, dict[int, Results]] = {}
        for cell, record in self.students:
            if (one := record.get(probe, {}).get(on)) is not None:
                found.setdefault(cell.method, {})[cell.seed] = one.results
        return found

    def sets(self, probe: str) -> tuple[str, ...]:
        """The sets that a probe has numbers on."""
        records = [self.teacher, *(record for _, record in self.students)]
        return tuple(dict.fromkeys(on for record in records for on in record.get(probe, {})))


def probes_of(pair: Pair) -> PairProbes:
    """Read the records of a pair's runs."""
    notes: list[str] = []

    def read(path: Any) -> ProbeRecord:
        try:
            return {} if path is None else read_probes(path)
        except InputError as error:
            notes.append(str(error))
            return {}

    def teacher(run: RunFolder) -> ProbeRecord:
        return read(teacher_record(run))

    students = [(cell, read(student_record(cell.run))) for cell in pair.cells]
    taught = next((record for cell in pair.cells if (record := teacher(cell.run))), {})
    return PairProbes(taught, tuple((cell, record) for cell, record in students if record), tuple(dict.fromkeys(notes)))


def probe_tables(
    pair: Pair, probes: PairProbes, reference: str, chosen: Collection[str] = tuple(PROBE_TABLES)
) -> list[PageTable]:
    """A table for each probe and set that has numbers, in the order of :data:`PROBE_TABLES`.

    Args:
        pair: gives the order of the methods.
        probes: of the pair.
        reference: the label of the method that relative numbers are relative to.
        chosen: the probes that are shown.
    """
    return [
        _table(pair, probes, probe, on, reference)
        for probe in PROBE_TABLES
        if probe in chosen
        for on in probes.sets(probe)
        if probes.results(probe, on)
    ]


def _table(pair: Pair, probes: PairProbes, probe: str, on: str, reference: str) -> PageTable:
    described = PROBE_TABLES[probe]
    by_method, teacher = probes.results(probe, on), probes.teacher.get(probe, {}).get(on)
    lines: dict[str, dict[int, Results]] = {} if teacher is None else {"teacher": {0: teacher.results}}
    lines |= {method: by_method[method] for method in pair.methods if method in by_method}
    base = by_method.get(reference, {})
    cells = {column: [_entry(column, results, base) for results in lines.values()] for column in described.columns}
    known = [column for column, entries in cells.items() if any(entry.order is not None for entry in entries)]
    rows = tuple(
        TableRow(
            name, "teacher" if name == "teacher" else "reference" * (name == reference),
            tuple(cells[column][place] for column in known),
        )
        for place, name in enumerate(lines)
    )  # fmt: skip
    return PageTable(described.caption.format(on=on), tuple(Heading(c.head, c.note) for c in known), rows)


def _entry(column: ProbeColumn, by_seed: Mapping[int, Results], base: Mapping[int, Results]) -> Entry:
    """Mean ± standard deviation over seeds, with each seed's number as tooltip; of one seed its interval."""
    first = next(iter(base.values()), None)
    pairs = [(results, base.get(seed, first)) for seed, results in sorted(by_seed.items())]
    values = [value for pair in pairs if (value := column.value(*pair)) is not None]
    if not values:
        return Entry()
    spread = stdev(values) if len(values) > 1 else None
    if len(pairs) == 1 and column.interval is not None:
        spread = column.interval(*pairs[0])
    text = column.text(fmean(values)) + ("" if spread is None else f" ± {column.text(spread)}")
    return Entry(text, fmean(values), ", ".join(map(column.text, values)) if len(values) > 1 else "")
