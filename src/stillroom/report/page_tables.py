"""The page's tables: their columns, rows and cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from stillroom.formatting import counted, duration, short_count, size_in_words
from stillroom.report.charts import shortened
from stillroom.report.metrics import Measures, TeacherMeasures
from stillroom.report.runs_table import short_nats, signed
from stillroom.report.statistics import Difference
from stillroom.report.summary import MethodSummary, PairSummary
from stillroom.scores import Score

NONE = "–"


@dataclass(frozen=True)
class Entry:
    """One cell.

    Attributes:
        text: as shown.
        order: the sort key of the column; None comes last.
        note: tooltip.
        kind: "good", "bad", "words" (may take two lines), "values" (names with values) or nothing.
    """

    text: str = NONE
    order: float | str | None = None
    note: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Line:
    """The subject of one row.

    Attributes:
        name: of the method, or "teacher".
        measures: of each seed's run; for the teacher one, on the same validation images.
        method: None for the teacher.
        remark: a word behind the name, or nothing.
    """

    name: str
    measures: tuple[Measures, ...] | tuple[TeacherMeasures]
    method: MethodSummary | None
    remark: str = ""


@dataclass(frozen=True)
class Heading:
    """The heading of a column.

    Attributes:
        head: the heading.
        note: what it means, in a sentence.
    """

    head: str
    note: str


@dataclass(frozen=True)
class Column(Heading):
    """A column; ``cell`` makes an entry."""

    cell: Callable[[Line], Entry]


@dataclass(frozen=True)
class TableRow:
    """One row.

    Attributes:
        name: of the method, "teacher", or of a class.
        role: "teacher", "reference", "class" or nothing.
        entries: one for each column after the first, which holds the name.
        remark: a word behind the name, or nothing.
    """

    name: str
    role: str
    entries: tuple[Entry, ...]
    remark: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table that can be sorted.

    Attributes:
        caption: what it shows.
        columns: after the first; empty ones are left out.
        rows: the teacher first, then the methods in order; or the classes.
    """

    caption: str
    columns: tuple[Heading, ...]
    rows: tuple[TableRow, ...]


def tables_of(summary: PairSummary, reference: str) -> list[PageTable]:
    """The tables of a pair: its main score, its further scores where there are any, and closeness and cost."""
    lines, score = lines_of(summary), summary.pair.score
    results = _results(reference, score)
    if len(summary.methods) == 1:
        results = tuple(column for column in results if column.head != "verdict")
    return [
        table_of(f"{score.title} on the validation images", results, lines, reference),
        *([table_of(f"{score.title} by overlap and size", _further(score), lines, reference)] if score.further else []),
        table_of("Closeness to the teacher, and cost" if score.per_image else "Cost", COSTS, lines, reference),
    ]


def lines_of(summary: PairSummary) -> list[Line]:
    """A line for the teacher, if there is one, and for each method."""
    lines = [] if summary.teacher is None else [Line("teacher", (summary.teacher,), None)]
    untuned = summary.pair.is_untuned
    return lines + [Line(m.method, m.measures, m, "untuned" * untuned(m.method)) for m in summary.methods]


def table_of(caption: str, columns: Sequence[Column], lines: Sequence[Line], reference: str) -> PageTable:
    """A table with the columns that have an entry."""
    entries = {column.head: [column.cell(line) for line in lines] for column in columns}
    known = tuple(column for column in columns if any(entry.text != NONE for entry in entries[column.head]))
    rows = []
    for place, line in enumerate(lines):
        role = "teacher" if line.method is None else "reference" * (line.name == reference)
        rows.append(TableRow(line.name, role, tuple(entries[column.head][place] for column in known), line.remark))
    return PageTable(caption, known, tuple(rows))


def _further(score: Score) -> tuple[Column, ...]:
    """A column for each further score after the last epoch."""

    def cell(key: str) -> Callable[[Line], Entry]:
        return lambda line: _mean((one.further.get(key) for one in line.measures), "{:.2f}".format)

    return tuple(Column(f"{one.label} %", one.meaning, cell(one.key)) for one in score.further)


def _results(reference: str, score: Score) -> tuple[Column, ...]:
    meaning = "" if score.per_image else f". {score.name} is the {score.meaning}"
    return (
        Column("last %", f"{score.name} after the last epoch, mean ± standard deviation over seeds{meaning}", _last),
        Column("verdict", "from the adjusted p, at significance level 0.05", _verdict(reference)),
        Column(
            f"points over {shortened(reference)}",
            "difference of the last epoch over common seeds, with its 95 % interval",
            _of_difference(_points),
        ),
        Column("p adjusted", "p corrected for this pair's comparisons (Benjamini-Hochberg)", _of_difference(_adjusted)),
        Column("p permutation", "exact permutation test over seeds, not corrected", _of_difference(_permutation)),
        Column("effect", "Cohen's d_z: mean over standard deviation of the differences", _of_difference(_effect)),
        Column(
            "best %",
            f"{score.name} at the best epoch, which is selected on these images: optimistically biased (runs with "
            "patience select it on held-out training images)",
            _best,
        ),
        Column("seeds", "number of runs", _seeds),
        Column("published %", "as reported by the source of the recipe", _published),
    )


def _seeds(line: Line) -> Entry:
    if line.method is None:
        return Entry()
    return Entry(str(len(line.measures)), len(line.measures), "seeds " + ", ".join(map(str, line.method.seeds)))


def _last(line: Line) -> Entry:
    if line.method is None:
        return _spread([one.score for one in line.measures if isinstance(one, TeacherMeasures)], None)
    return _spread([one.last for one in line.method.measures], line.method.last_sd)


def _best(line: Line) -> Entry:
    if line.method is None:
        return Entry()  # on these images, only the weights that taught are known
    note = "epoch " + ", ".join(str(one.best_epoch) for one in line.method.measures)
    return _spread([one.best for one in line.method.measures], line.method.best_sd, note)


def _spread(values: Sequence[float], deviation: float | None, note: str = "") -> Entry:
    text = f"{fmean(values):.2f}" + (f" ± {deviation:.2f}" if deviation is not None else "")
    each = ", ".join(f"{value:.2f}" for value in values) if len(values) > 1 else ""
    return Entry(text, fmean(values), "; ".join(filter(None, (each, note))))


def _of_difference(entry: Callable[[Difference], Entry]) -> Callable[[Line], Entry]:
    def cell(line: Line) -> Entry:
        if line.method is None or line.method.difference is None:
            return Entry()
        return entry(line.method.difference)

    return cell


def _points(difference: Difference) -> Entry:
    if difference.mean is None:
        return Entry()
    text = signed(difference.mean, 2)
    if difference.low is not None and difference.high is not None:
        text += f" [{signed(difference.low, 2)}, {signed(difference.high, 2)}]"
    seeds = f"{counted(difference.seeds, 'seed')} in common"
    basis = seeds if difference.basis == "seeds" else "one seed, over its images"
    return Entry(text, difference.mean, basis)


def _adjusted(difference: Difference) -> Entry:
    return _chance(difference.p if difference.p_adjusted is None else difference.p_adjusted)


def _permutation(difference: Difference) -> Entry:
    return _chance(difference.p_permutation)


def _chance(p: float | None) -> Entry:
    if p is None:
        return Entry()
    return Entry("< 0.001" if p < 0.001 else f"{p:.3f}", p)


def _effect(difference: Difference) -> Entry:
    return Entry() if difference.effect is None else Entry(signed(difference.effect, 2), difference.effect)


def _verdict(reference: str) -> Callable[[Line], Entry]:
    kinds = {"better": "good", "worse": "bad", "not distinguishable": "words"}

    def cell(line: Line) -> Entry:
        if line.method is not None and line.method.difference is not None:
            word = line.method.difference.verdict
            return Entry(word, word, kind=kinds.get(word, ""))
        return Entry("reference", "reference") if line.name == reference and line.method is not None else Entry()

    return cell


def _published(line: Line) -> Entry:
    value = None if line.method is None else line.method.published
    return Entry() if value is None else Entry(f"{value:.2f}", value)


def _mean(values: Iterable[float | None], text: Callable[[float], str]) -> Entry:
    there = [value for value in values if value is not None]
    if not there:
        return Entry()
    each = ", ".join(map(text, there)) if len(set(there)) > 1 else ""
    return Entry(text(fmean(there)), fmean(there), each)


COSTS = (
    Column(
        "agreement %",
        "fraction of images on which student and teacher predict the same class",
        lambda line: _mean((one.agreement for one in line.measures), "{:.2f}".format),
    ),
    Column(
        "KL to teacher",
        "mean Kullback-Leibler divergence of the student's probabilities from the teacher's, in nats",
        lambda line: _mean((one.kl_to_teacher for one in line.measures), short_nats),
    ),
    Column(
        "ECE %",
        "expected calibration error over 15 bins",
        lambda line: _mean((one.ece for one in line.measures), "{:.2f}".format),
    ),
    Column(
        "parameters", "of the trained model", lambda line: _mean((m.parameters for m in line.measures), short_count)
    ),
    Column(
        "MACs",
        "multiply-accumulate operations for one image",
        lambda line: _mean((m.macs for m in line.measures), short_count),
    ),
    Column(
        "training time",
        "training steps only, mean over seeds; includes computing teacher logits, unless a bank stores them",
        lambda line: _mean((m.seconds for m in line.measures), duration),
    ),
    Column(
        "images/s",
        "training images per second of this time, median over the epochs",
        lambda line: _mean((m.images_per_second for m in line.measures), "{:,.0f}".format),
    ),
    Column(
        "peak memory",
        "largest memory use of training, where it was recorded",
        lambda line: _mean((m.peak_memory for m in line.measures), lambda size: size_in_words(int(size))),
    ),
)
