"""The page's tables about a pair of detectors: AP by class, and error kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from stillroom.report.page_tables import Column, Entry, Heading, Line, PageTable, TableRow, lines_of, table_of
from stillroom.report.run_detections import detections_of, teacher_detections_of
from stillroom.report.summary import PairSummary
from stillroom.tasks.box_errors import BoxErrors, box_errors
from stillroom.tasks.detections_file import StoredDetections

# Kind of error -> heading, and what it means.
KINDS = {
    "classification": ("wrong class", "the place of an object is found, with another class"),
    "localisation": ("wrong place", "the class is correct, and the box overlaps the object too little (IoU below 0.5)"),
    "both": ("wrong class and place", "another class, and too little overlap"),
    "duplicate": ("duplicate", "the object was already found by a detection with a higher score"),
    "background": ("background", "a detection where no object is (IoU of at most 0.1 with every object)"),
    "missed": ("missed", "an object that no detection is about"),
}


def class_table(summary: PairSummary, reference: str) -> PageTable | None:
    """AP by class, a row a class and a column a network; None where no AP of a class is known.

    Args:
        summary: of the pair.
        reference: the label of the method that the others were compared with.
    """
    columns: dict[str, list[tuple[float | None, ...]]] = {}
    if summary.teacher is not None and summary.teacher.per_class:
        columns["teacher"] = [summary.teacher.per_class]
    for method in summary.methods:
        if known := [one.per_class for one in method.measures if one.per_class]:
            columns[method.method] = known
    if not columns:
        return None
    notes = {"teacher": "the teacher", reference: "the reference, mean over seeds"}
    rows = [
        TableRow(str(name), "class", tuple(_ap([values[place] for values in each]) for each in columns.values()))
        for place, name in enumerate(summary.pair.cells[0].run.config()["classes"])
    ]
    heads = tuple(Heading(name, notes.get(name, "mean over seeds")) for name in columns)
    return PageTable("AP of each class in %, of the exported weights", heads, tuple(rows))


def _ap(values: Sequence[float | None]) -> Entry:
    known = [value for value in values if value is not None]
    return Entry(f"{fmean(known):.1f}", fmean(known)) if known else Entry(note="no object of this class")


def error_tables(summary: PairSummary, reference: str) -> list[PageTable]:
    """What the errors of each kind cost, and how many there are, means over seeds.

    Args:
        summary: of the pair.
        reference: the label of the method that the others were compared with.

    Raises:
        InputError: the detections of a run cannot be read.
    """
    found = {
        method: [_errors(detections_of(cell.run)) for cell in summary.pair.runs(method)]
        for method in summary.pair.methods
    }
    teacher = (teacher_detections_of(cell.run) for cell in summary.pair.cells)
    if (known := next((one for one in teacher if one is not None), None)) is not None:
        found["teacher"] = [_errors(known)]
    lines = [line for line in lines_of(summary) if line.name in found]

    def columns(values: Callable[[BoxErrors, str], float], text: str) -> list[Column]:
        def cell(kind: str) -> Callable[[Line], Entry]:
            return lambda line: _mean([values(one, kind) for one in found[line.name]], text)

        return [Column(head, note, cell(kind)) for kind, (head, note) in KINDS.items()]

    costs = columns(lambda errors, kind: errors.gains[kind], "{:.2f}")
    counts = columns(lambda errors, kind: errors.counts[kind], "{:,.0f}")
    return [
        table_of("Points of AP50 that would be gained without the errors of a kind", costs, lines, reference),
        table_of("Number of errors of each kind", counts, lines, reference),
    ]


def _errors(stored: StoredDetections) -> BoxErrors:
    return box_errors(stored.objects, stored.found)


def _mean(values: Sequence[float], text: str) -> Entry:
    each = ", ".join(map(text.format, values)) if len(values) > 1 else ""
    return Entry(text.format(fmean(values)), fmean(values), each)
